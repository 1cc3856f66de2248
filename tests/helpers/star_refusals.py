"""Recipes that do not fit what STAR's old model sees, by the rule that refuses them."""

FEATURES = {"class_features": {"part": "class_features"}}

STAR_REFUSED = {
    "old_classes_are_seen_alike": [
        (
            "star",
            {"losses.old_features": {"part": "old_features", "raw_threshold": 0.0}},
            "`method.statistics.class_features` sees old classes above a logit of 0.5,"
            " `method.losses.old_features` above 0.0, so what is counted is not what is trained:"
            " set `raw_threshold` of all alike.",
        ),
    ],
    "old_scores_are_read_as_learned": [
        (
            "mib",
            {"losses.hold": {"part": "old_features"}},
            "`method.losses.hold` reads the previous model's logits as sigmoid, but"
            " `method.base.losses` make them softmax: take it out (`-S '~method.losses.hold'`), or"
            " give all steps losses of that kind, such as `bce`.",
        ),
        (
            "mib",
            {
                "losses.apart": {"part": "separation"},
                "base.statistics": FEATURES,
                "statistics": FEATURES,
            },
            "`method.losses.apart` reads the previous model's logits as sigmoid, *",
        ),
        (
            "mib",
            {"base.statistics": FEATURES, "statistics": FEATURES},
            "`method.statistics.class_features` reads the previous model's logits as sigmoid, *"
            " (`-S '~method.statistics.class_features'`), or give all steps *",
        ),
        ("mib", {"losses.r": {"part": "reasoning"}}, "`method.losses.r` reads * as sigmoid, *"),
        (
            "lwf_mc",
            {"losses.wf": {"part": "weighted_feature_mse"}},
            "`method.losses.wf` reads the previous model's logits as softmax, but"
            " `method.base.losses` make them sigmoid: * such as `ce`.",
        ),
    ],
    "old_classes_are_hidden": [
        (
            "star",
            {"images": "seen"},
            "`method.statistics.class_features` counts the old classes that labels hide, and"
            " `method.images: seen` has them annotated: set `method.images: train`.",
        ),
        (
            "star",
            {"replay": {"part": "exemplars"}},
            "`method.statistics.class_features` counts the old classes that labels hide, and kept"
            " photographs have them annotated: set `method.replay.labels` to step.",
        ),
        ("star_m", {"replay": {"part": "exemplars", "labels": "released"}}, "* to step."),
    ],
    "pseudo_labels_are_read": [
        (
            "star",
            {"pseudo_labels": {"part": "sigmoid"}},
            "`method.losses.replayed_bce` teaches what is annotated alone, so"
            " `method.pseudo_labels: sigmoid` change nothing: set `method.pseudo_labels` to none,"
            " or take `bce`.",
        ),
    ],
}

STAR_REFUSED_ELSEWHERE = [
    (
        "_statistics_are_gathered",
        "star",
        {"base.statistics": {}, "statistics": {}},
        "`method.losses.replayed_bce` needs the statistic 'class_features', which is not gathered:"
        " add `class_features: {part: class_features}` to `method.base.statistics`.",
    ),
    (
        "_statistics_are_gathered",
        "star",
        {"statistics": {}},
        "`method.losses.replayed_bce` needs * to `method.statistics`.",
    ),
    (
        "_statistics_are_gathered",
        "star",
        {"base.statistics": {}, "statistics": FEATURES},
        "`method.statistics.class_features` starts from what the previous step gathered, and the"
        " base step does not gather it: add it to `method.base.statistics`.",
    ),
    (
        "_terms_compare_with_a_previous_model",
        "star",
        {"base.losses.apart": {"part": "separation"}},
        "`method.base.losses.apart` compares with a previous model, and the base step has none:",
    ),
    (
        "_unknown_is_where_it_is_expected",
        "ssul",
        {"losses.hold": {"part": "old_features"}},
        "`method.losses.hold` takes output 0 for the background, * or drop the term.",
    ),
    *(
        (
            "_unknown_is_where_it_is_expected",
            "ssul",
            {f"losses.{part}": {"part": part}, "base.statistics": FEATURES, "statistics": FEATURES},
            f"`method.losses.{part}` takes output 0 for the background, * or {way_out}.",
        )
        for part, way_out in (
            ("separation", "drop the term"),
            ("replayed_bce", "take `bce` instead"),
        )
    ),
    (
        "_unknown_is_where_it_is_expected",
        "ssul",
        {"base.statistics": FEATURES, "statistics": FEATURES},
        "`method.base.statistics.class_features` takes output 0 for the background, where a model"
        " with `method.base.unknown_class: salient` has the unknown class: set"
        " `method.base.unknown_class` to none, or take it out.",
    ),
    (
        "heads_are_read_where_they_are_linear",
        "star",
        {"base.head": {"part": "conv"}},
        "`method.losses.replayed_bce` computes with a classifier's weights, and `method.base.head:"
        " conv` has layers before it: set `method.base.head` to linear, or drop the term.",
    ),
    (
        "a_learned_background_is_taught",
        "star",
        {"base.background": {"part": "argmax"}},
        "`method.base.losses.mbce` teaches classes alone, so nothing would teach the background's"
        " output: set `method.base.background` to rejected, or take `bce` instead.",
    ),
]
"""The same for rules that are told of elsewhere: the rule's name before each."""
