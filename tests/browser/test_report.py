"""The report as its reader opens it: from disk, in Chromium, with no network."""

import pytest

pytestmark = pytest.mark.browser


@pytest.fixture
def page(browser, real_audit, request):
    width = getattr(request, "param", 1280)
    opened = browser.new_page(viewport={"width": width, "height": 900})
    opened.errors, opened.asked = [], []
    opened.on("console", lambda m: opened.errors.append(m.text) if m.type == "error" else None)
    opened.on("pageerror", lambda e: opened.errors.append(str(e)))
    opened.on("request", lambda r: opened.asked.append(r.url))
    opened.goto((real_audit / "report.html").as_uri())
    opened.wait_for_selector("html[data-ready=yes]")
    yield opened
    opened.close()


@pytest.mark.parametrize("page", [390, 1280], indirect=True)
def test_it_opens_without_errors_or_network_at_any_width(page):
    page.wait_for_selector("#map-plot .scatterlayer .point")
    assert page.errors == []
    assert [url for url in page.asked if not url.startswith(("file:", "data:", "blob:"))] == []
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 1


def test_the_first_screen_says_model_layer_and_how_good(page):
    first = page.inner_text("main")[:1500]
    assert "smollm2-135m" in first
    assert "layer 19" in first
    box = page.locator(".tile").first.bounding_box()
    assert box["y"] + box["height"] < 900
    assert page.locator(".tile .chip").count() >= 5


def test_search_marks_an_emotion_and_tells_of_it(page):
    page.fill("#search", "desper")
    assert page.inner_text("#found") == "desperate"
    assert page.inner_text("#panel").startswith("desperate")
    assert "nearest" in page.inner_text("#panel")
    page.fill("#search", "zzz")
    assert page.inner_text("#found") == "no such emotion here"


def test_hovering_a_point_tells_of_it(page):
    page.locator("#map-plot").scroll_into_view_if_needed()
    before = page.inner_text("#panel")
    points = page.locator("#map-plot .scatterlayer .point")
    box = points.nth(40).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2 - 30, box["y"])
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=4)
    page.wait_for_function("t => document.getElementById('panel').innerText !== t", arg=before)
    assert "nearest" in page.inner_text("#panel")


def test_dark_and_light(page):
    def ground():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    before = ground()
    page.click("#theme")
    assert ground() != before
    assert page.errors == []


def test_every_chart_has_a_title_and_named_axes(page):
    for card in page.locator("section.card:has(.plot)").all():
        # A figure that says what the section's answer says already has it above and not twice.
        told = (
            card.locator("h3").inner_text()
            if card.locator("h3").count()
            else card.locator(".plot").get_attribute("aria-label")
        )
        assert told.strip()
    answers = page.locator("p.answer").all_inner_texts()
    assert len(answers) == page.locator("table.front tbody tr").count()
    titles = page.evaluate(
        "[...document.querySelectorAll('.plot[data-name]')].map(p => [p.dataset.name, p.layout.xaxis.title, p.layout.yaxis.title, p.data[0].y])"
    )
    assert titles
    for name, x, y, values in titles:
        # The cosine matrix names concepts on both sides; rows that are names need no axis title, numbers do.
        assert name == "geometry" or (x and x["text"]), name
        assert isinstance(values[0], str) or (y and y["text"]), name


def test_situations_can_be_coloured_by_any_concept(page):
    traces = page.locator("#heats affect-trace")
    assert traces.count() == 12
    assert "mean z of happy" in traces.first.locator(".read").inner_text()
    token = traces.first.locator(".t").nth(10)
    before = token.evaluate("t => getComputedStyle(t).backgroundColor")
    page.select_option("#concept", "angry")
    page.wait_for_function(
        "document.querySelector('affect-trace').shadowRoot.querySelector('.read').innerText.includes('angry')"
    )
    assert token.evaluate("t => getComputedStyle(t).backgroundColor") != before
    token.hover()
    said = traces.first.locator(".read").inner_text()
    assert "angry z" in said
    assert "cosine" in said


def test_a_situation_opens_its_chart(page):
    trace = page.locator("#heats affect-trace").nth(1)
    assert not trace.locator(".chart svg").count()
    trace.get_by_role("button", name="Chart and numbers").click()
    trace.locator(".chart svg").wait_for()
    assert trace.locator(".lines li").count() == 6  # five concepts, after what the numbers are


def test_the_lens_table_answers(page):
    rows = page.locator("#lens-table tbody tr").count()
    page.fill("#lens-search", "furious")
    assert page.locator("#lens-table tbody tr").count() == rows + 1
    assert page.locator("#lens-table tbody tr").first.inner_text().startswith("furious")


def test_the_front_table_leads_to_every_experiment(page):
    rows = page.locator("table.front tbody tr")
    assert rows.count() >= 20
    for target in page.eval_on_selector_all("table.front a", "links => links.map(a => a.getAttribute('href'))"):
        assert page.locator(target).count() == 1, target


def test_neurons_can_be_browsed_by_emotion(page):
    page.fill("#neuron-search", "happy")
    assert page.inner_text("#neuron-found") == "happy"
    assert page.locator("#neuron-writers tbody tr").count() >= 5
    before = page.inner_text("#neuron-separators")
    page.fill("#neuron-search", "afraid")
    assert page.inner_text("#neuron-separators") != before


def test_a_swept_text_shows_its_best_passages(page):
    first = page.locator("#sweep-top li")
    assert first.count() == 5
    before = first.first.inner_text()
    scores = [float(text.split()[0]) for text in first.all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    page.select_option("#sweep-concept", "tormented")
    assert first.first.inner_text() != before
    assert page.errors == []
