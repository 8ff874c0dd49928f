"""The chart: a panel of bars for each topic, as SVG without any library."""

from html import escape

from measure import median

WIDTH, COLUMNS, MARGIN = 1000, 2, 24
LABEL, NUMBER, BAR, GAP, HEAD, AXIS = 128, 44, 16, 6, 34, 34

# Contestants with a bar, and their colours: limits grey, kafka-sql blue, the others ochre.
BARS = (
    ("drain", "raw Fetch drain", "#b8bec6"),
    ("inflate", "decompress-only", "#b8bec6"),
    ("wire/sum", "kafka-sql, wire", "#1f6feb"),
    ("librdkafka/sum", "kafka-sql, librdkafka", "#7fb0f5"),
    ("franz", "franz-go", "#d9a441"),
    ("perf-test", "consumer-perf-test", "#d9a441"),
    ("kcat", "kcat", "#d9a441"),
    ("confluent", "confluent-kafka", "#d9a441"),
    ("spark", "Spark", "#d9a441"),
)


def svg(results: dict) -> str:
    panels = []
    for case in results["cases"].values():
        if bars := _bars(case):
            panels.append((case["title"], bars))
    heights = [HEAD + len(bars) * (BAR + GAP) + AXIS for _, bars in panels]
    width = (WIDTH - MARGIN * (COLUMNS + 1)) / COLUMNS
    parts, top = [], 84
    for row in range(0, len(panels), COLUMNS):
        in_row = list(zip(panels, heights))[row : row + COLUMNS]
        for column, ((title, bars), _) in enumerate(in_row):
            x = MARGIN + column * (width + MARGIN)
            parts.append(_panel(x, top, width, title, bars))
        top += max(height for _, height in in_row) + 14
    machine = results["machine"]
    note = "quick run, to be regenerated; " if results["quick"] else ""
    subtitle = (
        f"{note}million records a second, median of {results['runs']} runs; {machine['cores']} cores shared with"
        f" the broker, {machine['memory_gib']} GiB, {machine['date']}"
    )
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 6:.0f}" '
        'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{top + 6:.0f}" fill="#ffffff"/>',
        _text(MARGIN, 34, "Reading a topic of Kafka", size=20, weight=600),
        _text(MARGIN, 56, subtitle, colour="#57606a"),
    ]
    return "\n".join([*head, *parts, "</svg>"]) + "\n"


def _bars(case: dict) -> list:
    entries = case["entries"]
    bars = []
    for key, label, colour in BARS:
        entry = entries.get(key) or entries.get(key.replace("/sum", "/group"), {})
        samples = None if "failed" in entry else entry.get("samples")
        # On a compressed topic the raw drain would dwarf all others, and is no limit for them.
        if not samples or (key == "drain" and "inflate" in entries):
            continue
        bars.append((label, median(s["records"] / s["seconds"] for s in samples) / 1e6, colour))
    return bars


def _panel(x: float, y: float, width: float, title: str, bars: list) -> str:
    left, right = x + LABEL + 8, x + width - NUMBER
    step = _step(max(value for _, value, _ in bars))
    top = step * -(-max(value for _, value, _ in bars) // step)
    bottom = y + HEAD + len(bars) * (BAR + GAP)
    parts = [_text(x, y + 16, title, size=14, weight=600)]
    for tick in range(round(top / step) + 1):
        at = left + (right - left) * tick * step / top
        parts.append(f'<path d="M{at:.1f} {y + HEAD - 6:.1f}V{bottom:.1f}" stroke="#e3e6ea"/>')
        parts.append(_text(at, bottom + 14, f"{tick * step:g}", anchor="middle", colour="#57606a", size=11))
    parts.append(
        _text((left + right) / 2, bottom + 28, "million records a second", anchor="middle", colour="#57606a", size=11)
    )
    for n, (label, value, colour) in enumerate(bars):
        at = y + HEAD + n * (BAR + GAP)
        length = max((right - left) * value / top, 1)
        parts.append(_text(left - 8, at + 12, label, anchor="end"))
        parts.append(f'<rect x="{left:.1f}" y="{at:.1f}" width="{length:.1f}" height="{BAR}" rx="2" fill="{colour}"/>')
        parts.append(_text(left + length + 5, at + 12, f"{value:.1f}" if value >= 1 else f"{value:.2f}"))
    return "\n".join(parts)


def _step(most: float) -> float:
    """The distance of ticks: 1, 2 or 5 times a power of ten, for at most six of them."""
    power = 1e-6
    while True:
        for factor in (1, 2, 5):
            if most / (factor * power) <= 6:
                return factor * power
        power *= 10


def _text(x, y, text, size=12, weight=400, anchor="start", colour="#1f2328") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="{colour}">{escape(text)}</text>'
    )
