"""`<affect-trace>` as its reader uses it: from disk, by mouse and by keyboard, in light, dark and on a narrow screen."""

import numpy as np
import pytest

from affectscope.errors import AffectscopeError
from affectscope.monitoring.trace import Event, Trace, quantise
from affectscope.report.trace_page import render_trace, trace_data

pytestmark = pytest.mark.browser

CONCEPTS = ("calm", "desperate", "proud")
TOKENS = ("<|im_start|>", "Pass", " the", " tests", ".\n", "<|im_end|>", " I", " can", "not", "", "🙂", ".")
ROLES = ("template", *("user",) * 4, "template", *("assistant",) * 6)
HOSTILE = "<img src=x onerror=\"window.hurt='img'\">", "</script><script>window.hurt='script'</script>", "<!--"


def made(**other) -> Trace:
    z = np.zeros((1, 12, 3))
    z[0, :, 1] = [0, -1, -2, 0.5, 0, 1, 2, 4, 3, 3, 2, 1]  # desperate
    z[0, :, 0] = 1
    z[0, 3] = np.nan
    events = (
        Event(3, "fault", {"fault": "nan", "cause": "NaN or Inf in the scores"}),
        Event(7, "alarm", {"rule": "level", "statistic": 4.0, "threshold": 2.9, "alpha": 0.01, "stratum": "all"}),
        Event(10, "alarm", {"rule": "ewma", "statistic": 1.5, "threshold": 1.25, "alpha": 0.01, "stratum": "all"}),
    )
    given = {
        "id": "episode-1", "started": 0.0, "ended": 2.0, "finished": "stop", "concepts": CONCEPTS, "probes": ("readers",),
        "z": quantise(z), "positions": np.arange(12, dtype=np.int32), "roles": ROLES, "phases": (*("none",) * 6, *("answer",) * 6),
        "generated": np.arange(12) > 5, "events": events, "settings": {"layer": 19}, "texts": TOKENS,
    }  # fmt: skip
    return Trace(**(given | other))


@pytest.fixture
def opened(browser, tmp_path):
    """``opened(trace, ...)``: a page with that trace, which must not complain."""
    pages = []

    def show(trace: Trace, width: int = 1280, scheme: str = "light", watch: tuple[str, ...] = ("desperate",)):
        (tmp_path / "trace.html").write_text(render_trace(trace, "A trace", watch=watch), encoding="utf-8")
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.errors, page.asked = [], []
        page.on("console", lambda m: page.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: page.errors.append(str(e)))
        page.on("request", lambda r: page.asked.append(r.url))
        page.goto((tmp_path / "trace.html").as_uri())
        painted(page)
        pages.append(page)
        return page

    yield show
    for page in pages:
        assert page.errors == []
        assert [url for url in page.asked if not url.startswith("file:")] == []
        page.close()


def painted(page) -> None:
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def token(page, index: int):
    return page.locator("affect-trace .text .t").nth(index)


def classes(page, index: int) -> set[str]:
    return set(token(page, index).get_attribute("class").split())


def colour(page, index: int) -> str:
    return token(page, index).evaluate("t => getComputedStyle(t).backgroundColor")


def said(page) -> str:
    return page.locator("affect-trace [aria-live=polite]").inner_text()


def set_trace(page, value) -> None:
    page.evaluate("value => { document.querySelector('affect-trace').trace = value; }", value)
    painted(page)


def test_it_shows_text_speakers_chart_and_movers(opened):
    page = opened(made())
    assert page.locator("affect-trace .text .t").all_text_contents() == list(TOKENS)
    assert page.locator("affect-trace .who").all_inner_texts() == [
        "template",
        "user",
        "template",
        "assistant\ngenerated",
    ]
    assert page.locator("affect-trace .facts").inner_text().startswith("episode-1 · 12 tokens · layer 19 · 1 fault")
    chart = page.locator("affect-trace .chart svg")
    assert chart.get_attribute("aria-label") == "Lines of desperate, calm, proud over 12 tokens"
    labels = chart.locator("text").all_text_contents()
    assert {"z (s.d. from baseline)", "token", "0", "+4", "user", "assistant"} <= set(labels)
    assert chart.locator(".tick").count() == 2
    assert "Highest mean z over 6 generated tokens" in page.locator("affect-trace h3").inner_text()
    movers = page.locator("affect-trace .movers button").all_inner_texts()
    assert [m.split() for m in movers] == [["desperate", "+2.50"], ["calm", "+1.00"], ["proud", "0.00"]]
    assert page.locator("affect-trace .scale").inner_text().split() == [
        "below",
        "above",
        "z",
        "−4",
        "−2",
        "0",
        "+2",
        "+4",
    ]


def test_colour_follows_the_concept(opened):
    page = opened(made())
    assert {"hot"} <= classes(page, 7)
    assert {"cold"} <= classes(page, 2)
    assert not {"hot", "cold"} & classes(page, 4)
    before = colour(page, 7)
    page.select_option("affect-trace select", "calm")
    assert colour(page, 7) != before
    assert "hot" in classes(page, 2)
    page.locator("affect-trace .movers button", has_text="desperate").click()
    assert colour(page, 7) == before
    assert page.locator("affect-trace select").input_value() == "desperate"


def test_alarms_faults_and_missing_readings_are_told_apart_without_colour(opened):
    page = opened(made())
    assert "alarm" in classes(page, 7)
    assert token(page, 7).evaluate("t => getComputedStyle(t, '::before').content") == '"▲"'
    assert {"fault", "missing"} <= classes(page, 3)
    assert "gradient" in token(page, 3).evaluate("t => getComputedStyle(t).backgroundImage")
    assert "no reading" in page.locator("affect-trace .keys").inner_text()
    token(page, 3).hover()
    assert "fault nan, NaN or Inf in the scores" in page.locator("affect-trace .read").inner_text()
    assert "no reading" in page.locator("affect-trace .read").inner_text()


def test_the_keyboard_moves_tells_and_pins(opened):
    page = opened(made())
    stops = "document.querySelector('affect-trace').shadowRoot.querySelectorAll('.text [tabindex]').length"
    page.locator("affect-trace .text [tabindex='0']").focus()
    assert "“Pass”, token 1, user, desperate z −1.00" in said(page)
    page.keyboard.press("ArrowRight")
    assert said(page) == "“ the”, token 2, user, desperate z −2.00"
    page.keyboard.press("a")
    assert "“ can”, token 7, assistant, answer, generated, desperate z +4.00, alarm level, 4 against" in said(page)
    page.keyboard.press("a")
    assert "token 10" in said(page)
    page.keyboard.press("a")  # round again
    assert "token 7" in said(page)
    page.keyboard.press("ArrowUp")
    assert "calm z +1.00" in said(page)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert said(page).endswith("pinned")
    page.keyboard.press("End")
    assert "token 11" in said(page)
    assert "from there −3.00" in page.locator("affect-trace .read").inner_text()
    page.keyboard.press("Escape")
    assert "pin" not in classes(page, 7)
    page.keyboard.press("Home")
    assert "token 0, template" in said(page)
    assert page.evaluate(stops) == 1


def test_chart_and_text_point_at_each_other(opened):
    page = opened(made())
    token(page, 8).hover()
    at_token = page.locator("affect-trace .chart circle")
    assert at_token.count() == 1
    x = float(at_token.get_attribute("cx"))
    box = page.locator("affect-trace .chart svg").bounding_box()
    page.mouse.move(box["x"] + x, box["y"] + 100, steps=4)
    painted(page)
    assert "here" in classes(page, 8)
    assert "token 8" in page.locator("affect-trace .read").inner_text()
    page.mouse.click(box["x"] + x, box["y"] + 100)
    page.mouse.move(5, 5)
    assert "pin" in classes(page, 8)


def test_a_reader_with_a_screen_reader_gets_the_numbers(opened):
    page = opened(made())
    summary = page.locator("affect-trace #summary").inner_text()
    assert "desperate mean +2.50, highest +4.00 at token 7" in summary
    assert "Alarms: token 7, alarm level" in summary
    page.locator("affect-trace details summary").click()
    rows = page.locator("affect-trace tbody tr").all_inner_texts()
    assert rows[0].split("\t") == ["desperate", "+2.50", "+4.00", "7, “ can”"]
    assert len(rows) == 3


def test_five_thousand_tokens_stream_in(opened):
    page = opened(made())
    page.evaluate("""async () => {
        const trace = document.querySelector("affect-trace"), concepts = Array.from({ length: 171 }, (_, c) => `concept ${c}`);
        trace.trace = { concepts, tokens: [], roles: [], z: [] };
        for (let i = 0; i < 5000; i++) {
            trace.append({
                token: i % 50 === 49 ? ".\\n" : " word", role: "assistant", phase: "answer", generated: true, z: concepts.map((_, c) => (c === 7 ? 2 : 0) + (i === 4000 ? 1 : 0)),
                events: i === 4999 ? [{ kind: "alarm", detail: { rule: "level", statistic: 3, threshold: 2 } }] : [],
            });
            if (i % 250 === 0) await new Promise(requestAnimationFrame);
        }
    }""")
    painted(page)
    assert page.locator("affect-trace .text .t").count() == 5000
    assert page.locator("affect-trace .turn").count() == 1
    assert "alarm" in classes(page, 4999)
    assert said(page).startswith("Token 4999: alarm level")
    assert page.locator("affect-trace .movers button").first.inner_text().split() == ["concept", "7", "+2.00"]
    assert "Each point is the mean of" in page.locator("affect-trace .note").inner_text()
    assert page.locator("affect-trace .tick").count() == 1
    at_end = "t => t.scrollTop + t.clientHeight >= t.scrollHeight - 40"
    assert page.locator("affect-trace .text").evaluate(at_end)  # a reader at the end stays there
    assert page.evaluate("document.querySelector('affect-trace').trace.z[7].length") == 5000


def test_light_dark_and_the_button(opened):
    def look():
        return page.locator("affect-trace .text").evaluate(
            "t => [getComputedStyle(t).backgroundColor, getComputedStyle(t).color]"
        )

    page = opened(made(), scheme="dark")
    dark = look()
    page.click("#theme")
    assert look() != dark
    assert page.locator("affect-trace .box").get_attribute("data-theme") == "light"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_any_colour(opened, scheme):
    page = opened(made(), scheme=scheme)
    faint = page.evaluate("""() => {
        const linear = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        const light = c => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
        const parse = text => text.match(/[\\d.]+/g).map(Number);
        const root = document.querySelector("affect-trace").shadowRoot, ground = parse(getComputedStyle(root.querySelector(".text")).backgroundColor);
        const ratio = part => {
            const style = getComputedStyle(part), [r, g, b, a = 1] = parse(style.backgroundColor);
            const under = [r, g, b].map((v, k) => v * a + ground[k] * (1 - a)), [x, y] = [light(parse(style.color)), light(under)];
            return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
        };
        const parts = [...root.querySelectorAll(".t, .who, .who small, .scale, .facts, .keys, .read span, .next, .movers b, h3")];
        for (const part of root.querySelectorAll(".text .t")) part.style.setProperty("--z", 1); // the fullest colour there is
        return parts.map(part => [part.className, ratio(part)]).filter(([, found]) => found < 4.5);
    }""")
    assert faint == []


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_overflows(opened, width):
    page = opened(made(texts=("x" * 300, *TOKENS[1:]), id="e" * 120), width=width)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    assert page.locator("affect-trace .text").evaluate("t => t.scrollWidth - t.clientWidth") <= 0


def test_hostile_text_is_only_text(opened):
    roles = ("<b>user</b>",) * 12
    page = opened(made(texts=(*HOSTILE, *TOKENS[3:]), roles=roles, id=HOSTILE[0], concepts=(HOSTILE[0], "desperate", "proud"),
                       events=(Event(4, "alarm", {"rule": HOSTILE[0], "why": HOSTILE[1]}),)))  # fmt: skip
    assert page.locator("affect-trace .text .t").all_text_contents()[:3] == list(HOSTILE)
    token(page, 4).hover()
    assert HOSTILE[1] in page.locator("affect-trace .read").inner_text()
    page.select_option("affect-trace select", HOSTILE[0])
    painted(page)
    page.locator("affect-trace details summary").click()
    assert page.evaluate("window.hurt") is None
    assert page.locator("affect-trace img, affect-trace .box script, affect-trace .box b b").count() == 0


def test_every_empty_state_says_so(opened):
    page = opened(made())
    state, whole = page.locator("affect-trace .state"), trace_data(made())
    assert not state.is_visible()
    for value, words in (
        (None, "No trace yet."),
        ({}, "This trace has no token yet."),
        (whole | {"concepts": [], "z": []}, "No concept was read"),
        (whole | {"z": [[None] * 12] * 3}, "No reading of calm could be taken."),
    ):
        set_trace(page, value)
        assert words in state.inner_text()
    set_trace(page, {"concepts": ["calm"], "tokens": ["one"], "roles": ["text"], "z": [[1.5]]})
    assert not state.is_visible()
    assert page.locator("affect-trace .chart svg").is_visible()
    assert "+1.50" in page.locator("affect-trace .read").inner_text()
    set_trace(
        page,
        {"concepts": ["calm"], "tokens": ["a", "b"], "z": [["x"]], "events": [{"position": 99, "kind": "alarm"}, 3]},
    )
    assert "alarm" in classes(page, 1)  # beyond the text: at its nearest token
    page.evaluate("""() => {
        const script = Object.assign(document.createElement("script"), { type: "application/json", textContent: "{" });
        const made = document.createElement("affect-trace");
        made.append(script);
        document.querySelector("affect-trace").replaceWith(made);
    }""")
    painted(page)
    assert "its JSON is damaged" in page.locator("affect-trace .state").inner_text()


def test_a_page_may_drive_it(opened):
    page = opened(made())
    page.evaluate("""() => {
        window.heard = [];
        for (const name of ["affect-concept", "affect-token"]) document.addEventListener(name, event => heard.push([name, event.detail]));
        Object.assign(document.querySelector("affect-trace"), { concept: "proud", cursor: 8 });
    }""")
    painted(page)
    assert "here" in classes(page, 8)
    assert page.evaluate("document.querySelector('affect-trace').concept") == "proud"
    assert page.evaluate("heard") == []  # only what a reader does is told
    page.select_option("affect-trace select", "calm")
    token(page, 6).click()
    assert page.evaluate("heard") == [
        ["affect-concept", {"concept": "calm"}],
        ["affect-token", {"index": 6, "pinned": 6}],
    ]


def test_text_that_was_not_kept_is_a_dot(opened):
    page = opened(made(texts=None))
    assert token(page, 1).evaluate("t => getComputedStyle(t, '::before').content") == '"·"'
    token(page, 1).hover()
    assert "text not kept" in page.locator("affect-trace .read").inner_text()


def test_events_stand_at_their_token_and_rewound_ones_tell_their_position():
    positions = np.array([0, 1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13], np.int32)
    found = trace_data(made(positions=positions, events=(Event(5, "alarm", {}), Event(40, "alarm", {"rule": "level"}))))
    assert [e["position"] for e in found["events"]] == [3, 11]
    assert [e["detail"] for e in found["events"]] == [{}, {"rule": "level", "position": 40}]
    assert found["z"][1][3] is None
    assert found["z"][1][7] == 4.0


def test_an_unknown_probe_or_concept_is_refused():
    with pytest.raises(AffectscopeError, match="no probe 'vectors'"):
        trace_data(made(), probe="vectors")
    with pytest.raises(AffectscopeError, match="no reading of happy"):
        trace_data(made(), watch=("happy",))
