"""The dashboard in a real browser, on a real server: every page and flow, with axe, in both themes and at three widths."""

import threading
import time
from dataclasses import replace
from importlib.resources import files

import httpx
import pytest
from tests.guarding.conftest import guard_calibration  # noqa: F401
from tests.guarding.test_policy import small
from tests.server.conftest import lowered, start  # noqa: F401

from affectscope.guarding.policy import Policy
from affectscope.guarding.session import Question
from affectscope.guarding.tools import Call

pytestmark = pytest.mark.browser
SCRIPT = '<img src=x onerror="window.stolen=1"><script>window.stolen=1</script>'
PAGES = ("", "inbox", "history", "playground", "vectors", "policies")


def said(server, session="", key="user", **more):
    body = {"model": "planted", "messages": [{"role": "user", "content": "w1 w2 w3"}], "max_tokens": 8}
    body |= {"affect": {"session": session}} | more
    headers = {"Authorization": f"Bearer {server.keys[key]}"}
    return httpx.post(f"{server.url}/v1/chat/completions", headers=headers, json=body, timeout=60)


@pytest.fixture
def opened(browser):
    """``opened(server, key, ...)``: the dashboard's page, signed in; a script error or a broken rule of the page fails the test."""
    contexts, wrong = [], []

    def begin(server, key="admin", theme="light", wide=1200, **allowed):
        context = browser.new_context(viewport={"width": wide, "height": 800}, color_scheme=theme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda m: wrong.append(m.text) if m.type == "error" and "status of" not in m.text else None)
        page.goto(server.url)
        page.fill("#key", server.keys[key])
        page.click("button[type=submit]")
        page.wait_for_selector("#nav a, .empty")
        return page

    yield begin
    for context in contexts:
        context.close()
    wrong[:] = [text for text in wrong if "ERR_CONNECTION_REFUSED" not in text and "ERR_INCOMPLETE_CHUNKED" not in text]
    assert wrong == []


def wait(page, condition, seconds=10.0):
    """Until a condition holds in the page. Playwright's own way compiles a text there, which the page's rules forbid."""
    until = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < until, condition
        page.wait_for_timeout(50)


def go(page, where):
    page.evaluate("document.querySelector('#main').replaceChildren('Loading')")
    page.goto(page.url.split("#")[0] + f"#/{where}")
    wait(page, "!document.querySelector('#main').textContent.startsWith('Loading')")


def asking(seconds=30):
    """A policy that asks a person at its first alarm."""
    values = small().plain()
    rule = next(iter(values["rules"].values()))
    rule["ladder"] = [{"action": "human", "options": {"seconds": seconds}}, {"action": "stop"}]
    return Policy.model_validate(values)


def axe(page):
    """What axe finds against WCAG 2.1 AA, as lines."""
    source = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    page.evaluate(source)
    found = page.evaluate("axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})")
    return [f"{one['id']}: {node['html'][:120]} {node['failureSummary'][:200]}" for one in found["violations"] for node in one["nodes"]]  # fmt: skip


def test_signing_in_and_out(start, browser):
    server = start()
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{server.url}/ui#/history")
    assert page.title() == "Sign in · affectscope"
    assert axe(page) == []
    page.fill("#key", "as-wrong")
    page.keyboard.press("Enter")
    assert "not known" in page.inner_text("[role=alert]")
    page.fill("#key", server.keys["read"])
    page.keyboard.press("Enter")
    page.wait_for_selector("#nav a")
    assert page.locator("#nav a").all_inner_texts() == ["Wall", "History", "Vectors", "Policies"]  # what a key may read
    page.click("#out")
    page.wait_for_selector("#key")
    page.goto(f"{server.url}/ui")
    assert page.url.endswith("/ui/login")
    context.close()


def test_the_wall_fills_sorts_filters_and_is_walked_by_keys(start, opened, guard_calibration):
    server = start(policies=(asking(),), calibration=lowered(guard_calibration))
    page = opened(server)
    page.wait_for_selector("text=No conversation runs now")
    waits = threading.Thread(target=said, args=(server, "waits"))
    waits.start()
    page.wait_for_selector(".tile[data-mood=waiting]")
    page.wait_for_selector("#nav .badge")
    assert page.title().startswith("(1) ")
    for name in ("b", "c"):
        live = server.state.hub.open("one", name, "small", server.state.named["one", "waits"].talk)
        server.state.hub.changed(live, "running")
    wait(page, "document.querySelectorAll('.tile').length === 3")
    wait(page, "document.querySelector('.tile[tabindex=\"0\"]')?.dataset.mood === 'waiting'")  # it rose
    page.fill("input[type=search]", "c")
    wait(page, "document.querySelectorAll('.tile').length === 1")
    assert page.locator(".tile .name").inner_text() == "c"
    page.fill("input[type=search]", "nothing like it")
    page.wait_for_selector("text=Nothing fits")
    page.fill("input[type=search]", "")
    wait(page, "document.querySelectorAll('.tile').length === 3")
    page.click(".counts button:has-text('waiting')")
    wait(page, "document.querySelectorAll('.tile').length === 1")
    page.click(".counts button:has-text('waiting')")
    wait(page, "document.querySelectorAll('.tile').length === 3")
    page.locator(".tile[tabindex='0']").focus()
    page.keyboard.press("End")
    names = page.evaluate("[...document.querySelectorAll('.tile')].map((t) => t.querySelector('.name').textContent)")
    last = page.evaluate("document.activeElement.querySelector('.name').textContent")
    assert last in names
    page.keyboard.press("Home")
    assert page.evaluate("document.activeElement.dataset.mood") == "waiting"
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:has-text('waits')")
    page.click("text=Answer it in the inbox")
    page.click("text=Deny")
    page.wait_for_selector("text=Nothing waits")
    waits.join(20)
    assert not waits.is_alive()


def test_a_conversation_is_watched_as_it_is_written_and_opened_again_when_it_was_stopped(
    start, opened, guard_calibration
):
    values = small().plain()
    next(iter(values["rules"].values()))["ladder"] = [{"action": "stop"}]
    server = start(policies=(Policy.model_validate(values),), calibration=lowered(guard_calibration), content=True)
    said(server, "mine")
    page = opened(server)
    go(page, "session/mine")
    page.wait_for_selector(".chip.stopped")
    page.wait_for_selector(".log li[data-kind=alarm]")
    kinds = page.evaluate("[...document.querySelectorAll('.log li')].map((li) => li.dataset.kind)")
    assert kinds.index("alarm") < kinds.index("decision") < kinds.index("action")
    shown = page.evaluate("document.querySelector('affect-trace').trace.tokens.join('')")
    assert shown == "".join(r.step.text for r in server.state.named["one", "mine"].talk.watch.readings)
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("text=Open it again")
    page.wait_for_selector(".chip:not(.stopped)")
    before = server.state.named["one", "mine"].talk.place
    threading.Thread(
        target=said, args=(server, "mine"), kwargs={"messages": [{"role": "user", "content": "w4 w5"}]}
    ).start()
    wait(page, f"document.querySelector('affect-trace').trace.tokens.length > {before}")
    page.click("text=Last kept trace")
    page.wait_for_selector("h1:has-text('mine, a turn of')")
    go(page, "session/nothing")
    page.wait_for_selector("text=does not run any more")


def test_forks_stand_side_by_side(start, opened, guard_calibration):
    values = small().plain()
    rule = next(iter(values["rules"].values()))
    rule["ladder"] = [{"action": "offer_exit", "options": {"text": "w7 w8"}}, {"action": "stop"}]
    made = Policy.model_validate(values | {"counterfactuals": 2})
    server = start(policies=(made,), calibration=lowered(guard_calibration), content=True)
    said(server, "forked")
    (row, *_) = server.store.list()
    page = opened(server)
    for where in ("session/forked", f"trace/{row.id}"):
        go(page, where)
        page.wait_for_selector("text=What if it had not been done?")
        heads = page.locator("section[aria-label=Counterfactual] h3").all_inner_texts()
        assert heads == ["Without it", "With offer_exit", "With words that say nothing"]
        page.locator("summary:has-text('What it wrote')").first.click()
        assert page.locator(".said").first.inner_text().startswith("seed 1")
        assert "less without it" in page.locator("section[aria-label=Counterfactual] .card").nth(1).inner_text()


def test_the_inbox_approves_denies_and_lets_expire_and_nothing_in_it_is_run(start, opened):
    server = start()
    answers = {}

    def ask(name, seconds):
        question = Question(
            "r", f"the rule {SCRIPT} is in alarm", seconds, f"I say {SCRIPT}", Call(f"tool {SCRIPT}", {"a": SCRIPT})
        )
        answers[name] = server.state.inbox.ask("one", name, question, lambda: False)

    threads = [threading.Thread(target=ask, args=(name, s)) for name, s in (("yes", 30), ("no", 30), ("late", 2))]
    for thread in threads:
        thread.start()
    page = opened(server)
    go(page, "inbox")
    page.wait_for_selector("section[aria-label='Question of yes']")
    assert "onerror" in page.inner_text("section[aria-label='Question of yes'] .said")
    assert axe(page) == []
    page.click("section[aria-label='Question of yes'] >> text=Approve")
    page.click("section[aria-label='Question of no'] >> text=Deny")
    page.wait_for_selector("text=Nothing waits")
    for thread in threads:
        thread.join(10)
    assert answers == {"yes": "approved", "no": "denied", "late": None}
    assert page.evaluate("window.stolen") is None


def test_history_is_filtered_paged_and_opened_and_stored_markup_stays_text(start, opened, guard_calibration):
    server = start(calibration=lowered(guard_calibration), content=True)
    said(server, "loud")
    (loud,) = [server.store.load(row.id) for row in server.store.list()]
    for i in range(55):
        hostile = replace(
            loud,
            id=f"copy-{i:02}",
            events=(),
            tags={**loud.tags, "talk": SCRIPT},
            finished=SCRIPT,
            texts=tuple(SCRIPT for _ in loud.texts),
        )
        server.store.save(hostile)
    page = opened(server)
    go(page, "history")
    page.wait_for_selector("text=50 traces shown")
    page.click("text=Older ones")
    page.wait_for_selector("text=56 traces shown")
    assert page.locator("text=Older ones").is_hidden()
    page.select_option("select[name=alarm]", "true")
    page.wait_for_selector("text=1 trace shown")
    assert "alarm=true" in page.url
    page.select_option("select[name=concept]", "angry")
    page.wait_for_selector("text=1 trace shown")
    page.fill("input[name=session]", "nobody")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=No trace fits")
    assert page.evaluate("window.stolen") is None
    go(page, "trace/copy-01")
    page.wait_for_selector("h1:has-text('onerror')")
    page.evaluate("document.querySelector('affect-trace').shadowRoot.querySelector('.text').textContent")
    assert page.evaluate("window.stolen") is None
    go(page, "trace/none")
    page.wait_for_selector("text=there is no trace 'none'")


def test_two_doses_are_tried_side_by_side(start, opened):
    server = start()
    page = opened(server)
    go(page, "playground")
    page.fill("textarea", "w1 w2 w3")
    page.fill("input[name=tokens]", "12")
    dial = page.locator("input[aria-label='Dose B']")
    assert (float(dial.get_attribute("min")), float(dial.get_attribute("max"))) == (-0.1, 0.1)
    dial.focus()
    page.keyboard.press("End")
    assert page.locator(".dial output").nth(1).inner_text() == "s = +0.100"
    page.click("text=Send")
    wait(
        page,
        "[...document.querySelectorAll('#main section [role=status]')].filter((p) => p.textContent.includes('ended')).length === 2",
    )
    assert page.locator("#main section h2").all_inner_texts() == ["A: no dose", "B: calm +0.100"]
    tokens = page.evaluate("[...document.querySelectorAll('affect-trace')].map((t) => t.trace.tokens.length)")
    assert all(0 < count <= 12 for count in tokens)
    acts = [e for row in server.store.list() for e in server.store.load(row.id).events if e.kind == "action"]
    assert [(e.detail["by"], e.detail["s_milli"]) for e in acts] == [("admin", 100)]
    page.uncheck("input[name=compare]")
    page.fill("input[name=tokens]", "1000")
    page.click("text=Send")
    page.wait_for_selector("#main section .bad:has-text('ask for at most')")
    infer = opened(server, "infer")
    infer.wait_for_selector("textarea")
    assert infer.locator("input[aria-label='Dose A']").is_disabled()
    assert "scope control" in infer.inner_text("form")


def test_vectors_are_chosen_on_the_map_and_by_name(start, opened):
    server = start()
    page = opened(server)
    go(page, "vectors")
    page.wait_for_selector(".bars")
    first = page.inner_text("main .card h2 >> nth=0")
    other = page.inner_text(".bars button >> nth=0")
    page.click(".bars button >> nth=0")
    wait(page, f"document.querySelector('main .card h2').textContent === {other!r}")
    page.fill("input[aria-label=Concept]", first)
    page.keyboard.press("Enter")
    wait(page, f"document.querySelector('main .card h2').textContent === {first!r}")
    page.locator(".map .mark").nth(1).click(force=True)
    wait(page, f"document.querySelector('main .card h2').textContent !== {first!r}")


def test_policies_are_shown_and_tried_on_what_was(start, opened, guard_calibration):
    server = start(calibration=lowered(guard_calibration))
    said(server, "a")
    page = opened(server)
    go(page, "policies")
    page.wait_for_selector("h2:has-text('small')")
    assert "angry − calm" in page.inner_text("table >> nth=0")
    page.click("text=Decide over them")
    page.wait_for_selector("text=small would have acted in 1 of 1 trace")
    page.select_option("select[name=policy]", "")
    page.fill("textarea[name=yaml]", "rules: [")
    page.click("text=Decide over them")
    page.wait_for_selector("[role=alert]:has-text('line')")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_is_accessible_and_fits_at_three_widths(start, opened, theme, guard_calibration):
    server = start(calibration=lowered(guard_calibration), content=True)
    said(server, "one")
    said(server, "a-very-long-name-of-a-session-that-goes-on-and-on-0123456789")
    (row, *_) = server.store.list()
    page = opened(server, theme=theme)
    page.wait_for_selector(".tile")
    for where in (*PAGES, "session/one", f"trace/{row.id}", "nothing"):
        go(page, where)
        page.wait_for_selector("#main h1, #main .empty")
        time.sleep(0.3)
        for wide in (1200, 800, 360):
            page.set_viewport_size({"width": wide, "height": 800})
            over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert over <= 0, (where, wide)
        assert axe(page) == [], where
        page.set_viewport_size({"width": 1200, "height": 800})


def test_what_is_not_there_and_what_breaks_is_told(start, opened):
    bare = start(vectors=None, calibration=None, policies=())
    page = opened(bare)
    for where, says in (
        ("vectors", "reads nothing"),
        ("history", "No traces are kept"),
        ("policies", "No policy is served"),
        ("", "No conversation runs now"),
        ("nothing", "no such page"),
    ):
        go(page, where)
        page.wait_for_selector(f"text={says}")
    reader = opened(bare, "read")
    go(reader, "playground")
    reader.wait_for_selector("text=needs the scope infer")
    bare.server.should_exit = True
    bare.state.begin_drain()
    page.wait_for_selector(".dot.off")


def test_the_page_is_light(start, opened):
    server = start()
    page = opened(server)
    sizes = []
    page.on("response", lambda r: sizes.append(len(r.body())) if "/ui" in r.url else None)
    page.goto(f"{server.url}/ui#/session/none")
    page.reload()
    for where in PAGES:
        go(page, where)
        time.sleep(0.2)
    assert 0 < sum(sizes) < 400_000
