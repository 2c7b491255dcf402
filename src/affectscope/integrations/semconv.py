"""Every name that leaves by OpenTelemetry, in one place, for few of them are settled.

* ``gen_ai.*``: "Development" in OpenTelemetry's semantic conventions for generative AI, which have left the core conventions for a
  repository of their own. We send the names that both have. Tokens are counted under other names since the new repository's 0.1.0:
  these come in the place of the core's where ``OTEL_SEMCONV_STABILITY_OPT_IN`` holds ``LATEST``.
* ``gen_ai.guardrail.*``: a proposal that is open (request 427 of the new repository). Its names are sent with the same opt-in only;
  what they would say stands under ``affect.*`` in any case.
* ``openinference.span.kind``: of OpenInference, whose viewers draw a span by it.
* ``server.*`` and ``error.type`` are stable. ``affect.*`` is ours: a name is never given another meaning.
"""

from __future__ import annotations

import os

OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"
LATEST = "gen_ai_latest_experimental"

# The request and its reply.
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_CHOICES = "gen_ai.request.choice.count"
REQUEST_STREAM = "gen_ai.request.stream"
REQUEST_TEMPERATURE = "gen_ai.request.temperature"
REQUEST_TOP_P = "gen_ai.request.top_p"
REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
REQUEST_SEED = "gen_ai.request.seed"
RESPONSE_ID = "gen_ai.response.id"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_FINISH_REASONS = "gen_ai.response.finish_reasons"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
ERROR_TYPE = "error.type"

# What was read of it: an event for each concept.
EVALUATION = "gen_ai.evaluation.result"
EVALUATION_NAME = "gen_ai.evaluation.name"
EVALUATION_SCORE = "gen_ai.evaluation.score.value"
EVALUATION_LABEL = "gen_ai.evaluation.score.label"
EVALUATION_EXPLANATION = "gen_ai.evaluation.explanation"

# What a guard did: the proposal's.
RUN_GUARDRAIL = "run_guardrail"
GUARDRAIL_COMPONENT = "gen_ai.guardrail.component.name"
GUARDRAIL_TARGET = "gen_ai.guardrail.target.type"
GUARDRAIL_SUBTYPE = "gen_ai.guardrail.target.subtype"
GUARDRAIL_VERDICT = "gen_ai.guardrail.verdict.type"
GUARDRAIL_ACTION = "gen_ai.guardrail.action.type"
GUARDRAIL_POLICY = "gen_ai.guardrail.security.policy.id"
GUARDRAIL_RULE = "gen_ai.guardrail.security.policy.rule.id"

# OpenInference.
SPAN_KIND = "openinference.span.kind"
KIND_LLM, KIND_GUARDRAIL = "LLM", "GUARDRAIL"

# Ours.
TENANT = "affect.tenant"
TRACES = "affect.traces"
CHOICE = "affect.choice"
TARGET = "affect.target"
VERDICT = "affect.verdict"
ACTION = "affect.action"
POLICY = "affect.policy"
RULE = "affect.rule"
POSITION = "affect.position"

# Metrics, with the boundaries that the conventions advise; seconds and tokens.
REQUEST_DURATION = "gen_ai.server.request.duration"
TIME_TO_FIRST_TOKEN = "gen_ai.server.time_to_first_token"
TIME_PER_OUTPUT_TOKEN = "gen_ai.server.time_per_output_token"
TOKEN_USAGE, TOKEN_TYPE = "gen_ai.client.token.usage", "gen_ai.token.type"
USAGE_INPUT = "gen_ai.client.inference.usage.input_tokens"
USAGE_OUTPUT = "gen_ai.client.inference.usage.output_tokens"
ALARMS = "affect.monitor.alarms"
REQUEST_SECONDS = tuple(0.01 * 2**i for i in range(14))
FIRST_TOKEN_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
OUTPUT_TOKEN_SECONDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
USAGE_TOKENS = tuple(4.0**i for i in range(14))

ENFORCED = {"allow": "allow", "warn": "allow", "modify": "modify", "deny": "block", "escalate": "escalate"}
"""The proposal's word for what was done, by our verdict; its verdicts are ours."""


def latest() -> bool:
    """Whether the environment asks for names that are still proposed."""
    return LATEST in (word.strip() for word in os.environ.get(OPT_IN, "").split(","))
