"""The experiments that come with affectscope, in the order in which a report shows them."""

from affectscope.validation import (
    geometry,
    human_ratings,
    layer_curve,
    logit_lens,
    other_style,
    recognition,
    situations,
    text_baselines,
)

BATTERY = (
    recognition.EXPERIMENT,
    text_baselines.EXPERIMENT,
    other_style.EXPERIMENT,
    layer_curve.EXPERIMENT,
    situations.EXPERIMENT,
    geometry.EXPERIMENT,
    human_ratings.EXPERIMENT,
    logit_lens.EXPERIMENT,
)
