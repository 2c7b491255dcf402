"""The experiments that come with affectscope, in the order in which a report shows them."""

from affectscope.validation import (
    binding,
    carry_over,
    expressed,
    geometry,
    human_ratings,
    intensity,
    layer_curve,
    layer_similarity,
    logit_lens,
    minimal_pairs,
    negation,
    neurons,
    other_style,
    positions,
    preference_steering,
    preferences,
    recognition,
    residualised,
    situations,
    text_baselines,
    unrelated,
    untrained_twin,
)

BATTERY = (
    # what the directions recognise
    recognition.EXPERIMENT,
    text_baselines.EXPERIMENT,
    other_style.EXPERIMENT,
    layer_curve.EXPERIMENT,
    # what else it could be
    residualised.EXPERIMENT,
    minimal_pairs.EXPERIMENT,
    unrelated.EXPERIMENT,
    untrained_twin.EXPERIMENT,
    # when they activate
    situations.EXPERIMENT,
    intensity.EXPERIMENT,
    positions.EXPERIMENT,
    carry_over.EXPERIMENT,
    negation.EXPERIMENT,
    binding.EXPERIMENT,
    # how they lie to each other
    geometry.EXPERIMENT,
    layer_similarity.EXPERIMENT,
    human_ratings.EXPERIMENT,
    logit_lens.EXPERIMENT,
    neurons.EXPERIMENT,
    # what they cause
    expressed.EXPERIMENT,
    preferences.EXPERIMENT,
    preference_steering.EXPERIMENT,
)
