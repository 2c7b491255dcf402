"""The ladder as a state machine: whatever happens in whatever order, no tool gets past a stop without a person."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from affectscope.guarding.events import FAULTS, Answer, Fault, Time, Token, Tool, Turn
from affectscope.guarding.ladder import FAULT, LATCH, Guard
from tests.guarding.test_policy import small

LADDERS = (
    ["log", {"action": "steer", "concept": "calm", "s": 0.05}, "stop"],
    ["offer_exit", "hold_tool", {"action": "human", "seconds": 3}, "stop"],
    [{"action": "human", "seconds": 1}],
    ["stop"],
    ["log"],
)
units = st.integers(-127, 127)


class Ladder(RuleBasedStateMachine):
    """Two rules over one policy, every kind of event in any order."""

    @initialize(
        ladders=st.tuples(st.sampled_from(LADDERS), st.sampled_from(LADDERS)),
        budget=st.integers(0, 4),
        on_fault=st.sampled_from(["hold", "stop", "degrade"]),
        human=st.booleans(),
    )
    def begin(self, ladders, budget, on_fault, human):
        part = {"concepts": {"angry": 1, "calm": -1}, "window": 2, "cool_down": 2, "options": {"slack": 0.5}}
        patient = [[r if isinstance(r, str) else r | {"patience": 3} for r in ladder] for ladder in ladders]
        patient = [[{"action": r, "patience": 3} if isinstance(r, str) else r for r in ladder] for ladder in patient]
        rules = {name: part | {"ladder": ladder} for name, ladder in zip(("one", "two"), patient, strict=True)}
        policy = small(
            rules=rules,
            limits={"budget": budget},
            on_fault=on_fault,
            barrier={"on_alarm": "human" if human else "hold"},
        )
        self.guard = Guard(policy, {"one": {"all": 4.0}, "two": {"all": 9.0}}, "none", 20)
        self.state, self.now, self.at, self.tools = self.guard.start(), 0, 0, 0

    def tell(self, event):
        before = self.state
        self.state, decision = self.guard.decide(self.state, event)
        assert self.guard.decide(before, event) == (self.state, decision)  # pure
        assert self.state.used <= self.guard.policy.limits.budget
        for act in decision.acts:
            assert act.verdict != "allow"
        if before.latched and not (isinstance(event, Answer) and event.answer == "reset"):
            assert self.state.latched
        return decision

    @rule(angry=units, held=units, own=st.booleans(), repeat=st.integers(1, 12))
    def token(self, angry, held, own, repeat):
        for _ in range(repeat):
            self.at += 1
            decision = self.tell(Token(self.at, "assistant", "answer", own, (angry, -angry), (held, -held)))
            flow = [
                act for act in decision.acts if act.action in ("offer_exit", "human", "stop", "reprompt", "resample")
            ]
            assert len(flow) <= 1

    @rule(name=st.sampled_from(["a", "b"]))
    def tool(self, name):
        unresolved = self.guard.closed(self.state)
        decision = self.tell(Tool(name, "shell"))
        assert (decision.verdict == "allow") is not unresolved

    @rule(fault=st.sampled_from(FAULTS))
    def fault(self, fault):
        assert self.tell(Fault(fault, "x")).closed
        assert self.guard.closed(self.state)

    @rule(answer=st.sampled_from(["approved", "denied", "nonsense"]), which=st.integers(0, 3))
    def answer(self, answer, which):
        open_ = [name for name, _ in self.state.pending] + ["tool:zz"]
        request = open_[which % len(open_)]
        decision = self.tell(Answer(request, answer, "kim"))
        if decision.reason.endswith("approved by kim"):
            assert answer == "approved"
            assert not self.state.latched
        again = self.tell(Answer(request, answer, "kim"))
        assert "no request" in again.reason

    @rule(more=st.integers(0, 400_000))
    def time(self, more):
        self.now += more
        self.tell(Time(self.now))
        assert all(deadline > self.state.now for _, deadline in self.state.pending)

    @rule()
    def turn(self):
        self.tell(Turn(1))

    @precondition(lambda self: self.state.latched)
    @rule()
    def stopped_stays_stopped(self):
        for event in (Turn(2), Time(10**12), Answer(FAULT, "reset"), Answer(LATCH, "approved"), Tool("z", "shell")):
            decision = self.tell(event)
            assert decision.closed or isinstance(event, Answer | Turn | Time)
            assert self.state.latched
        assert self.tell(Tool("z", "shell")).verdict == "deny"

    @precondition(lambda self: self.state.latched)
    @rule()
    def a_person_resets(self):
        assert self.tell(Answer(LATCH, "reset", "kim")).verdict == "allow"
        assert not self.state.latched

    @invariant()
    def a_ladder_never_runs_backwards_within_an_alarm(self):
        for place, part in zip(self.state.rules, map(self.guard.policy.rules.get, ("one", "two")), strict=True):
            assert -1 <= place.rung < len(part.ladder)
            assert place.rung < 0 or place.rung >= min(place.begin, len(part.ladder) - 1)


Ladder.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestLadder = Ladder.TestCase


def test_no_livelock():
    """Under any constant reading a rule comes to rest: it is over, or at its last rung, and acts finitely often."""
    for ladder in LADDERS:
        for held in (0, 20, 127):
            policy = small(rules__up__ladder=ladder, rules__up__window=2, rules__up__cool_down=3, limits={"budget": 5})
            guard = Guard(policy, {"up": {"all": 4.0}}, "none", 9)
            state, acts, last = guard.start(), 0, 0
            for at in range(3000):
                state, decision = guard.decide(state, Token(at, "assistant", "answer", True, (60, -60), (held, -held)))
                costly = [a for a in decision.acts if not (a.action == "stop" and a.rung < 0)]
                acts += len(costly)
                last = at if costly and costly[0].action != "log" else last
            assert state.used <= 5
            assert last < 2500
