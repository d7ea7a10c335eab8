# SPDX-License-Identifier: Apache-2.0
"""Draws the share errors of one result of bench/micro/shares as SVG; measures nothing."""
import html
import math

ROW, LEFT, TOP, WIDTH, RIGHT, BOTTOM = 18, 230, 84, 460, 130, 44
LOW, HIGH = 0.05, 100.0  # percent, ends of the logarithmic axis
BLUE, GREY, RED = "#1f5fa8", "#9a9a9a", "#b3261e"


def x_of(percent):
    inside = min(max(percent, LOW), HIGH)
    return LEFT + WIDTH * math.log(inside / LOW) / math.log(HIGH / LOW)


def text(x, y, words, anchor="start", colour="#222", size=11, weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" '
            f'fill="{colour}" text-anchor="{anchor}">{html.escape(words)}</text>')


def line(x1, y1, x2, y2, colour, width=1.0, dash=""):
    style = f' stroke-dasharray="{dash}"' if dash else ""
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
            f'stroke-width="{width}"{style}/>')


def dot(x, y, colour):
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'


def axis(bottom, goal):
    parts = []
    for percent in (0.1, 1, 10, 100):
        x = x_of(percent)
        parts += [line(x, TOP - 6, x, bottom, "#e4e4e4"),
                  text(x, bottom + 16, f"{percent:g} %", "middle")]
    x = x_of(goal)
    parts += [line(x, TOP - 6, x, bottom, RED, 1.2, "4 3"),
              text(x + 4, TOP - 10, f"goal {goal:g} %", colour=RED)]
    return parts


def legend(y):
    return [dot(LEFT, y - 4, BLUE), text(LEFT + 9, y, "with leases: median window, line to worst"),
            dot(LEFT + 262, y - 4, GREY), text(LEFT + 271, y, "hardware slicing")]


def draw_row(y, row, named):
    error, plain = row["error_permille"], row["plain_error_permille"]
    median, worst = error["median"] / 10, error["worst"] / 10
    end = x_of(worst)
    parts = [text(8, y + 4, row["load"], weight="bold")] if named else []
    return parts + [
        text(LEFT - 12, y + 4, row["ratio"], "end"),
        line(LEFT, y, LEFT + WIDTH, y, "#f2f2f2"),
        dot(x_of(plain["median"] / 10), y, GREY),
        line(x_of(median), y, end, y, BLUE, 2),
        dot(x_of(median), y, BLUE),
        text(LEFT + WIDTH + 10, y + 4, f"{median:.1f} %, lost {row['lost_permille'] / 10:.1f} %"),
    ]


def plot(result):
    """The SVG text for a result with `shares`."""
    rows = result["shares"]
    bottom = TOP + ROW * len(rows)
    height, width = bottom + BOTTOM, LEFT + WIDTH + RIGHT
    kind = "simulated " if result["simulated"] else ""
    what = f"{kind}{result['device']}, {result['date']}, {rows[0]['n']} windows of 1 s each"
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
             f'viewBox="0 0 {width} {height}" font-family="sans-serif">',
             f'<rect width="{width}" height="{height}" fill="white"/>',
             text(8, 22, "Share error over one second", size=15, weight="bold"),
             text(8, 40, what, colour="#666")]
    parts += legend(60) + axis(bottom, result["goals"]["share_error_permille"] / 10)
    before = None
    for i, row in enumerate(rows):
        parts += draw_row(TOP + ROW * i + ROW / 2, row, row["load"] != before)
        before = row["load"]
    return "\n".join(parts) + "\n</svg>\n"
