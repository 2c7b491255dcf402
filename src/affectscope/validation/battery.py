"""The experiments, in the order in which a report shows them. Importing this module registers them."""

from affectscope.validation import (  # noqa: F401
    geometry,
    human_ratings,
    layer_curve,
    logit_lens,
    recognition,
    situations,
    text_baselines,
)  # isort: skip
