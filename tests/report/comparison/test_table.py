import csv
import dataclasses
import io
import json

import pytest

from cssegcore.core.errors import InputError
from cssegcore.metrics.protocols import protocols
from cssegcore.report.comparison import figures
from cssegcore.report.comparison.published import published_rows
from cssegcore.report.comparison.runs import Benchmark, FinishedRun
from cssegcore.report.comparison.table import COUNTINGS, RunSpread, compare_runs
from cssegcore.report.comparison.writers import as_csv, as_latex, as_markdown, as_text, spread_text
from cssegcore.report.figures import drawn, printed
from tests.helpers import tiny_dataset as scenes
from tests.helpers.typeset import typeset

SHAPES = Benchmark("shapes/4-2", "overlapped", "whole photographs")
VOC = Benchmark("voc/15-1", "overlapped", "crops of 512", "crop")


def finished(label, seed, everything, *, added=30.0, benchmark=SHAPES, **more):
    miou = {"all": everything, "base_nobg": everything + 5, "added_nobg": added}
    row = {"base": everything + 5, "added": added, "all": everything, "average": None}
    summary = {"miou": miou, "average": everything + 10, "forgetting": 100 - everything}
    curve = [{"step": k, "miou_all": everything + k, "miou_base_nobg": 80.0} for k in (0.0, 1.0)]
    classes = [
        {"step": k, "class": name, "iou": everything - at if k else None}
        for k in (0.0, 1.0)
        for at, name in enumerate(("background", "cat_1", "dog"))
    ]
    return FinishedRun(
        method=label.split("+")[0],
        label=label,
        benchmark=benchmark,
        seed=seed,
        summary=summary | {"protocols": dict.fromkeys(protocols("annotated"), row)},
        steps=curve,
        classes=classes,
        **{"source": f"experiment {label}-{seed}", "seconds": 3600.0 * seed} | more,
    )


RUNS = [
    *(finished("mib", seed, value) for seed, value in ((1, 60.0), (2, 64.0))),
    *(finished("ft", seed, value) for seed, value in ((1, 20.0), (2, 22.0))),
    finished("joint", 1, 76.0, is_bound=True),
]


class TestSpread:
    def test_it_is_mean_and_sample_deviation(self):
        assert RunSpread.of([[1.0, 2.0, 3.0]]) == RunSpread(2.0, 1.0, None)

    def test_one_run_deviates_from_nothing(self):
        assert RunSpread.of([[7.0]]) == RunSpread(7.0, None, None)

    def test_orders_are_told_from_seeds(self):
        spread = RunSpread.of([[10.0, 12.0], [20.0, 22.0]])
        assert spread.mean == 16
        assert spread.over_seeds == pytest.approx(2**0.5)  # of each order about its own mean
        assert spread.over_orders == pytest.approx(50**0.5)  # of 11 and 21

    def test_an_order_with_more_seeds_weighs_no_more(self):
        assert RunSpread.of([[10.0, 10.0, 10.0], [20.0]]).mean == 15

    @pytest.mark.parametrize(
        ("spread", "text"),
        [
            (None, "–"),
            (RunSpread(71.84), "71.8"),
            (RunSpread(71.84, 0.95), "71.8 ± 0.9"),
            (RunSpread(71.84, 0.95, 2.0), "71.8 ± 0.9 (± 2.0)"),
            (RunSpread(71.84, None, 2.0), "71.8 (± 2.0)"),
        ],
    )
    def test_as_text(self, spread, text):
        assert spread_text(spread) == text


class TestTable:
    def test_runs_of_one_label_are_one_row(self):
        (block,) = compare_runs(RUNS).blocks
        assert [(row.label, row.count) for row in block.rows] == [
            ("ft", "2 seeds"),
            ("mib", "2 seeds"),
            ("joint", "1 seed"),  # sees all images: stands last
        ]
        ft = dict(zip(COUNTINGS["own"], block.rows[0].cells, strict=True))
        assert (ft["all"].mean, ft["all"].over_seeds) == (21.0, pytest.approx(2**0.5))
        assert ft["first.base_nobg"] == RunSpread(80.0, 0.0)

    def test_what_was_changed_is_another_row(self):
        changed = finished("mib kd.weight=5", 1, 61.0, changed={"kd.weight": "5"})
        table = compare_runs([*RUNS, changed])
        assert "mib kd.weight=5: changed from the default: kd.weight=5" in as_text(table)
        assert len(table.blocks[0].rows) == 4

    def test_equal_names_of_other_parameters_are_rows_of_their_own(self):
        """Names are cut, and they say what differs from the conf/ of a day."""
        runs = [
            finished("mib", seed, value, variant=variant)
            for seed, value, variant in (
                (1, 10.0, "ab12cd"),
                (1, 90.0, "ab34cd"),
                (2, 92.0, "ab34cd"),
            )
        ]
        table = compare_runs(runs)
        rows = table.blocks[0].rows
        assert [(row.label, row.count) for row in rows] == [
            ("mib #ab12", "1 seed"),
            ("mib #ab34", "2 seeds"),
        ]
        assert [row.cells[3].mean for row in rows] == [10.0, 91.0]
        said = (
            "mib #ab34: of other parameters than its namesakes: experiment mib-1, experiment mib-2"
        )
        assert said in as_text(table)
        names = [line.split(" & ")[0] for line in as_latex(table).splitlines() if "&" in line]
        assert [name for name in names if name.startswith("mib")] == ["mib \\#ab12", "mib \\#ab34"]

    def test_parameters_that_an_old_record_lacks_are_taken_for_the_same(self):
        runs = [finished("mib", 1, 60.0), finished("mib", 2, 62.0, variant="ab12cd")]
        assert [(r.label, r.count) for r in compare_runs(runs).blocks[0].rows] == [
            ("mib", "2 seeds")
        ]
        runs.append(finished("mib", 3, 10.0, variant="ff12cd"))
        labels = [row.label for row in compare_runs(runs).blocks[0].rows]
        assert labels == ["mib", "mib #ab12", "mib #ff12"]

    def test_a_seed_counts_once(self):
        again = finished("mib", 1, 70.0, source="later")
        table = compare_runs([*RUNS[:2], RUNS[1], again])
        (row,) = table.blocks[0].rows
        assert (row.count, row.cells[3].mean) == ("2 seeds", 67.0)
        assert "mib: seed 1 is there twice, with other numbers; later counts" in as_text(table)
        assert "seed 2" not in as_text(table)

    def test_no_change_hides_another(self):
        runs = [finished("mib +1 more", s, 60.0, changed={"lr": str(s)}) for s in (1, 2)]
        assert "changed from the default: lr=1 | 2" in as_text(compare_runs(runs))

    def test_orders_stand_in_one_row(self):
        runs = [finished("mib", s, 60.0 + s, order=o) for s in (1, 2) for o in ("b", "native")]
        (row,) = compare_runs(runs).blocks[0].rows
        assert (row.count, row.orders) == ("2 orders × 2 seeds", ("b", "native"))
        assert row.cells[3].over_orders == 0

    def test_another_protocol_is_another_table(self):
        crop = Benchmark("shapes/4-2", "overlapped", "crops of 96", "crop")
        blocks = compare_runs([*RUNS, finished("mib", 1, 61.0, benchmark=crop)]).blocks
        assert [block.benchmark for block in blocks] == [crop, SHAPES]

    def test_steps_are_told_only_where_two_benchmarks_differ_in_them(self):
        known = dataclasses.replace(SHAPES, steps="4+2+2", contents="ab12")
        runs = [RUNS[0], finished("mib", 2, 62.0, benchmark=known)]  # the first is an old record
        (block,) = compare_runs(runs).blocks
        assert (block.benchmark, block.rows[0].count) == (SHAPES, "2 seeds")
        grown = dataclasses.replace(SHAPES, steps="4+2+2+1", contents="cd34")
        blocks = compare_runs([*runs, finished("mib", 3, 9.0, benchmark=grown)]).blocks
        assert [block.benchmark.title.removeprefix(SHAPES.title) for block in blocks] == [
            "",
            ", steps of 4+2+2 classes",
            ", steps of 4+2+2+1 classes",
        ]

    def test_best_is_best_as_shown_and_no_bound(self):
        alike = [finished("a", 1, 60.01), finished("b", 1, 60.04), finished("c", 1, 59.0)]
        table = compare_runs([*alike, finished("joint", 1, 90.0, is_bound=True)])
        best = dict(zip(table.columns, table.best(table.blocks[0]), strict=True))
        assert best["all"] == {0, 1}

    def test_of_forgetting_less_is_best(self):
        table = compare_runs(RUNS[:4], columns=["forgetting", "all"])
        rows = [row.label for row in table.blocks[0].rows]
        assert [{rows[at] for at in of} for of in table.best(table.blocks[0])] == [{"mib"}] * 2

    def test_no_mean_over_some_of_the_runs(self):
        (row,) = compare_runs([RUNS[0], finished("mib", 3, 60.0, added=None)]).blocks[0].rows
        shown = dict(zip(COUNTINGS["own"], row.cells, strict=True))
        assert shown["added_nobg"] is None
        assert shown["all"] is not None

    def test_senseless_questions_are_refused(self):
        with pytest.raises(InputError, match="no counting 'x'"):
            compare_runs(RUNS, counting="x")
        with pytest.raises(InputError, match="no run has a number 'forgeting'"):
            compare_runs(RUNS, columns=["forgeting"])


class TestPublished:
    def test_every_row_is_of_a_recipe_and_a_scenario_of_ours(self):
        named = set(protocols("annotated"))
        for row in published_rows():
            assert all((scenes.HOME / f"conf/method/{m}.yaml").exists() for m in row.methods), row
            assert (scenes.HOME / f"conf/scenario/{row.scenario}.yaml").exists(), row
            assert row.counting in named
            assert row.numbers
            assert set(row.numbers) <= set(COUNTINGS[row.counting])
            assert all(0 <= value <= 100 for value in row.numbers.values())
            assert row.source

    def test_no_row_stands_twice(self):
        keys = [
            (row.label, row.scenario, row.setting, row.counting, row.source)
            for row in published_rows()
        ]
        assert len(keys) > 150
        assert len(set(keys)) == len(keys)

    @pytest.mark.parametrize("counting", ["mib", "plop", "ssul", "sdr"])
    def test_all_is_the_mean_over_base_and_added_classes(self, counting):
        """On VOC, as far as one decimal goes; so a number in the wrong column is found."""
        background = counting != "mib"
        seen = 0
        for row in published_rows():
            if row.counting == counting and {"base", "added"} <= {*row.numbers}:
                if not row.scenario.startswith("voc/"):
                    continue
                base, added = int(row.scenario[4:6]) + background, 20 - int(row.scenario[4:6])
                numbers = row.numbers
                mean = (base * numbers["base"] + added * numbers["added"]) / (base + added)
                assert numbers["all"] == pytest.approx(mean, abs=0.21), row
                seen += 1
        assert seen >= 9

    def test_it_stands_beside_ours_where_the_protocol_is_the_same(self):
        runs = [finished("plop", 1, 50.0, benchmark=VOC), finished("mib", 1, 30.0, benchmark=VOC)]
        table = compare_runs(runs, counting="plop", published=published_rows())
        labels = [row.label for row in table.blocks[0].rows]
        assert labels == ["mib", "plop", "MiB (PLOP's run)", "PLOP", "MiB (RCIL's list)"]
        assert "PLOP: Douillard et al., CVPR 2021 (PLOP), Table 1" in as_text(table)
        assert "*54.6" in as_text(table)

    def test_columns_are_those_of_the_counting(self):
        runs = [finished("plop", 1, 50.0, benchmark=VOC)]
        how = {"counting": "plop", "published": published_rows()}
        rows = compare_runs(runs, columns=["added"], **how).blocks[0].rows
        assert [row.cells[0].mean for row in rows] == [30.0, 21.11]
        with pytest.raises(InputError, match=r"'protocols\.plop\.forgetting'"):
            compare_runs(runs, columns=["forgetting"], **how)

    @pytest.mark.parametrize(
        "other",
        [
            {"benchmark": Benchmark("voc/15-1", "overlapped", "whole photographs", "whole")},
            {"benchmark": Benchmark("voc/15-1", "sequential", "crops of 512", "crop")},
            {"benchmark": VOC, "order": "b"},
        ],
    )
    def test_and_nowhere_else(self, other):
        table = compare_runs(
            [finished("plop", 1, 50.0, **other)], counting="plop", published=published_rows()
        )
        assert [row.label for row in table.blocks[0].rows] == ["plop"]

    def test_means_over_orders_stand_beside_runs_of_these_orders(self):
        ade = Benchmark("ade/100-50", "partitioned", "crops of 512", "crop")
        runs = [finished("mib", 1, 30.0, benchmark=ade, order=o) for o in ("native", "b")]
        (block,) = compare_runs(runs, counting="mib", published=published_rows()).blocks
        assert [row.label for row in block.rows] == ["mib", "MiB"]
        (block,) = compare_runs(runs[:1], counting="mib", published=published_rows()).blocks
        assert [row.label for row in block.rows] == ["mib"]


class TestWriters:
    def test_text(self):
        lines = as_text(compare_runs(RUNS)).splitlines()
        assert lines[0] == "shapes/4-2 · overlapped · whole photographs"
        assert " ".join(lines[2].split()) == "method runs base, step 0 base added all average"
        assert "ft" in lines[4]
        assert "*62.0 ± 2.8" in lines[5]
        assert "76.0" in lines[6]
        assert "*" not in lines[6]  # a bound

    def test_markdown_is_a_table(self):
        text = as_markdown(compare_runs([finished("my_own|method", 1, 50.0), *RUNS]))
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert len({row.replace("\\|", "").count("|") for row in rows}) == 1
        assert "**62.0 ± 2.8**" in text
        assert "my\\_own\\|method" in text

    def test_latex_has_columns_for_each_benchmark(self):
        runs = [*RUNS, finished("mib_1&2", 1, 40.0, benchmark=VOC)]
        text = as_latex(compare_runs(runs))
        lines = [line for line in text.splitlines() if not line.startswith("%")]
        assert lines[0] == "\\begin{tabular}{@{}lrrrrrrrrrr@{}}"
        assert text.count("\\toprule") == text.count("\\bottomrule") == 1
        rows = [line for line in lines if line.endswith("\\\\")]
        assert {line.replace("\\&", "").count("&") for line in rows[1:]} == {10}
        assert "mib\\_1\\&2" in text
        assert "\\textbf{62.0 $\\pm$ 2.8}" in text
        assert "\\cmidrule(lr){2-6}\\cmidrule(lr){7-11}" in text
        assert all(line.isascii() for line in lines)

    @pytest.mark.parametrize(
        "name", ["mib+kd.weight=5", "a_1&2 50% #$~^{}\\[x]", "größe × 2 – “ß”…"]
    )
    def test_latex_can_be_set(self, tmp_path, name):
        runs = [*RUNS, finished(name, 1, 40.0, benchmark=VOC)]
        typeset(tmp_path, as_latex(compare_runs(runs)))

    @pytest.mark.slow
    def test_latex_of_every_published_row_can_be_set(self, tmp_path):
        for counting in COUNTINGS:
            places = {(r.scenario, r.setting) for r in published_rows() if r.counting == counting}
            runs = [
                finished("plop", 1, 50.0, benchmark=Benchmark(*place, "crops of 512", "crop"))
                for place in sorted(places)
            ]
            if runs:
                table = compare_runs(runs, counting=counting, published=published_rows())
                typeset(tmp_path, as_latex(table))

    def test_csv_has_a_line_a_number(self):
        rows = list(csv.DictReader(io.StringIO(as_csv(compare_runs(RUNS)))))
        (mib,) = [r for r in rows if (r["method"], r["metric"]) == ("mib", "all")]
        assert float(mib["mean"]) == 62
        assert float(mib["std_seeds"]) == pytest.approx(8**0.5, abs=1e-4)
        assert (mib["std_orders"], mib["runs"], mib["best"], mib["source"]) == (
            "",
            "2",
            "1",
            "ours",
        )
        assert len(rows) == 3 * 5


@pytest.mark.slow
class TestFigures:
    @pytest.mark.parametrize(
        "draw", [figures.over_steps, figures.old_against_new, figures.accuracy_against_cost]
    )
    def test_every_method_is_named(self, draw):
        (block,) = compare_runs(RUNS).blocks
        svg = drawn(draw, block)
        assert all(f">{name}<" in svg for name in ("mib", "ft", "joint"))

    def test_costs_that_are_not_known_are_left_out(self):
        (block,) = compare_runs([finished("mib", 1, 60.0, seconds=None), RUNS[2]]).blocks
        svg = drawn(figures.accuracy_against_cost, block)
        assert ">ft<" in svg
        assert ">mib<" not in svg

    def test_classes_of_two_runs(self):
        before, after = RUNS[0], RUNS[1]
        assert figures.last_iou(after) == {"background": 64.0, "cat_1": 63.0, "dog": 62.0}
        svg = drawn(figures.class_difference, before, after)
        assert all(f">{name}<" in svg for name in ("background", "cat_1", "dog"))
        pdf = printed(figures.class_difference, before, after)
        assert pdf.startswith(b"%PDF")


def test_the_file_of_published_numbers_says_what_it_holds():
    path = scenes.HOME / "cssegcore/report/comparison/published.json"
    assert "crops" in json.loads(path.read_text())["about"]
