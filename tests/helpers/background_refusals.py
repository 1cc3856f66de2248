"""Recipes that do not fit what output 0 is, by the rule that refuses them; see REFUSED."""

MBCE, BCE = {"mbce": {"part": "mbce"}}, {"bce": {"part": "bce"}}
AC = {"ac": {"part": "negative"}}
AUXILIARY, REJECTED = {"part": "auxiliary"}, {"part": "rejected"}
NONE = {"part": "none"}
STAR_LIKE = {"base.losses": MBCE, "losses": MBCE, "base.background": REJECTED}
DKD_LIKE = {
    "base.losses": MBCE | AC,
    "losses": MBCE | AC,
    "base.background": AUXILIARY,
    "classifier_init": AUXILIARY,
}

BACKGROUND_REFUSED = {
    "heads_are_read_where_they_are_linear": [
        (
            "lwf_mc",
            {"base.head": {"part": "conv"}, "losses.plus": {"part": "reasoning"}},
            "`method.losses.plus` computes with a classifier's weights, and `method.base.head:"
            " conv` has layers before it: set `method.base.head` to linear, or drop the term.",
        ),
    ],
    "a_learned_background_is_taught": [
        (
            "lwf_mc",
            {"losses": MBCE},
            "`method.losses.mbce` teaches classes alone, so nothing would teach the background's"
            " output: set `method.base.background` to rejected, or take `bce` instead.",
        ),
        ("lwf_mc", {"base.losses": MBCE}, "`method.base.losses.mbce` teaches classes alone, so *"),
    ],
    "a_background_without_output_is_not_read": [
        (
            "ft",
            {"base.background": REJECTED},
            "`method.base.losses.ce` reads a score of the background, and a model with"
            " `method.base.background: rejected` has none: take `mbce`, or set"
            " `method.base.background` to argmax.",
        ),
        (
            "lwf_mc",
            STAR_LIKE | {"losses": MBCE | {"kd": {"part": "bce_kd"}}},
            "`method.losses.kd` reads a score of the background, and * has none: take `bce_kd` with"
            " `background: false`, or set `method.base.background` to argmax.",
        ),
        (
            "lwf_mc",
            STAR_LIKE | {"base.unknown_class": {"part": "everything"}},
            "`method.base.background: rejected` and `method.base.unknown_class: everything` both"
            " say what output 0 is: set `method.base.unknown_class` to none.",
        ),
        (
            "lwf_mc",
            DKD_LIKE | {"classifier_init": {"part": "background"}},
            "`method.classifier_init: background` splits the background's output, which a model"
            " with `method.base.background: auxiliary` does not have: set `method.classifier_init`"
            " to auxiliary.",
        ),
    ],
    "auxiliary_output_is_used": [
        (
            "lwf_mc",
            STAR_LIKE | {"losses": MBCE | AC},
            "`method.losses.ac` teaches an auxiliary output, and `method.base.background: rejected`"
            " is none: set it to auxiliary, or drop the term.",
        ),
        (
            "lwf_mc",
            DKD_LIKE | {"base.losses": MBCE},
            "`method.base.background: auxiliary` has an output that no term of `method.base.losses`"
            " teaches: add `ac: {part: negative}`, or set `method.base.background` to rejected.",
        ),
        (
            "lwf_mc",
            {"classifier_init": AUXILIARY},
            "`method.classifier_init: auxiliary` starts from an auxiliary output, and"
            " `method.base.background: argmax` is none: set `method.classifier_init` to none, or"
            " `method.base.background` to auxiliary.",
        ),
        (
            "lwf_mc",
            DKD_LIKE | {"classifier_init": NONE},
            "`method.base.background: auxiliary` has an output that nothing starts from: set"
            " `method.classifier_init` to auxiliary, or `method.base.background` to rejected.",
        ),
        (
            "lwf_mc",
            DKD_LIKE | {"freeze": {"part": "old_heads"}},
            "`method.freeze: old_heads` holds the auxiliary output, which goes on learning for the"
            " classes to come: set `method.freeze` to norms or none, or `method.base.background` to"
            " rejected.",
        ),
    ],
    "an_unknown_class_goes_on_learning": [
        (
            "ssul",
            {"freeze": {"part": "old_heads"}},
            "`method.freeze: old_heads` holds the unknown class's output, which goes on learning"
            " for the classes to come: set `method.freeze` to all_but_newest, norms or none, or"
            " `method.base.unknown_class` to none.",
        ),
    ],
}
