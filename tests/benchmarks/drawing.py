"""Figures of benchmarks as small SVG files."""

from __future__ import annotations

import re
from typing import Any

AXIS = {"gridColor": "#e6e6e6", "tickCount": 6, "titleFontWeight": "normal"}
CONFIG = {"background": "white", "aria": False, "font": "sans-serif", "view": {"stroke": None}, "axis": AXIS}


def svg(columns: list[dict[str, Any]]) -> str:
    """Vega-Lite columns, side by side."""
    import vl_convert

    title = {"fontSize": 13, "fontWeight": "normal"}
    drawn = vl_convert.vegalite_to_svg({"hconcat": columns, "config": {**CONFIG, "title": title}})
    drawn = re.sub(r' (class|role|aria-\w+)="[^"]*"', "", drawn).replace('<path d="" display="none"/>', "")
    return re.sub(r"(\.\d\d)\d+", r"\1", drawn)  # a hundredth of a pixel will do


def colour(colours: dict[str, str], shown: list[str]) -> dict[str, Any]:
    """One line for each arm, with a legend above."""
    return {
        "field": "arm",
        "type": "nominal",
        "title": None,
        "scale": {"domain": shown, "range": [colours[arm] for arm in shown]},
        "legend": {"orient": "top", "symbolType": "stroke", "symbolOpacity": 1},
    }
