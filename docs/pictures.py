"""Draw the pictures of the README: ``python docs/pictures.py [speed] [minutes] [report]``.

speed.svg and minutes.svg are drawn from benchmarks/RESULTS.md. report.png is a report page in
Chromium, of a network on synthetic cells, trained here in seconds.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import results

STATIC = Path(__file__).parent / "_static"


def plotting():
    """Import pyplot for figures whose text stays text, so that a test can read it."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    plt.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "kmedclf", "font.family": "sans-serif"}
    return plt


def speed() -> None:
    """Draw how many times faster training is than with scikeras and PyTorch."""
    plt = plotting()
    found = results.rows(results.tables("Speed of training")[0])
    fig, ax = plt.subplots(figsize=(8, 4.2), layout="constrained")
    for row, (_, rate, keras, torch, _) in enumerate(found):
        for shift, text, colour in ((-0.2, keras, "#1b6ca8"), (0.2, torch, "#d0702f")):
            times = float(text.split()[0])
            ax.barh(row + shift, times, 0.38, color=colour)
            ax.text(times + 0.05, row + shift, f"{times:g}×", va="center", fontsize=8)
        ax.text(7.7, row, f"{rate} images/s", va="center", ha="right", fontsize=8)
    ax.axvline(1, color="black", lw=0.8)
    ax.set_yticks(range(len(found)), [row[0] for row in found])
    ax.invert_yaxis()
    ax.set_xlim(0, 7.8)
    ax.set_xlabel("times the images a second, CPU; n = 5, medians")
    ax.legend(
        [plt.Rectangle((0, 0), 1, 1, color=c) for c in ("#1b6ca8", "#d0702f")],
        ["of scikeras", "of PyTorch"],
        loc="lower right",
        bbox_to_anchor=(0.86, 0.02),
    )
    ax.spines[["top", "right"]].set_visible(False)
    fig.savefig(STATIC / "speed.svg", facecolor="white", metadata={"Date": None})


def minutes() -> None:
    """Draw the accuracy that libraries reach on the same images in the same time."""
    plt = plotting()
    found = results.rows(results.tables("AutoClassifier and other libraries")[0])
    sets = list(dict.fromkeys(row[0] for row in found))
    ways = list(dict.fromkeys(row[2] for row in found))
    colours = ("#1b6ca8", "#6fb1dc", "#d0702f", "#8a8a8a", "#4b9b57")
    fig, axes = plt.subplots(1, len(sets), figsize=(9, 3.4), sharey=True, layout="constrained")
    for ax, one in zip(axes, sets, strict=True):
        times = sorted({float(row[1]) for row in found if row[0] == one})
        for number, (way, colour) in enumerate(zip(ways, colours, strict=True)):
            rows = [row for row in found if row[0] == one and row[2] == way]
            at = [times.index(float(row[1])) + 0.16 * (number - 2) for row in rows]
            low, high = zip(*(limits(row[3]) for row in rows), strict=True)
            value = [float(row[3].split()[0]) for row in rows]
            ax.vlines(at, low, high, color=colour, lw=2)
            ax.plot(at, value, "o", color=colour, label=way)
        ax.set_xticks(range(len(times)), [f"{time:g} min" for time in times])
        ax.set_xlim(-0.6, len(times) - 0.4)
        ax.set_title(one, fontsize=10)
        ax.grid(axis="y", alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylim(0, 1)
    axes[0].set_ylabel("accuracy on unseen images")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(ways))
    fig.savefig(STATIC / "minutes.svg", facecolor="white", metadata={"Date": None})


def limits(text: str) -> tuple[float, float]:
    """Return the interval of "0.9 [0.8, 1.0]"."""
    low, high = text.partition("[")[2].rstrip("]").split(",")
    return float(low), float(high)


def report() -> None:
    """Train on synthetic cells, write the report, open it and take its picture."""
    import numpy as np
    from selenium import webdriver

    from kmedclf import CNNClassifier
    from kmedclf.datasets import info, make_blood_cells
    from kmedclf.evaluation import evaluate, write_page

    X, y = make_blood_cells(1500, random_state=0)
    X_test, y_test = make_blood_cells(500, random_state=1)
    cnn = CNNClassifier(recipe="fast", filters=32, epochs=15, random_state=0).fit(X, y)
    found = evaluate(cnn, X_test, y_test, class_names=info("bloodmnist").class_names)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "report.html")
        write_page(page, found, X=X_test, title="Synthetic blood cells", note="Drawn by a program.")
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for argument in ("headless", "no-sandbox", "window-size=1200,1400", "hide-scrollbars"):
            options.add_argument(f"--{argument}")
        driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            driver.get(page.as_uri())
            mistakes = found.confusion - np.diag(np.diag(found.confusion))
            i, j = np.unravel_index(mistakes.argmax(), mistakes.shape)
            driver.find_element("css selector", f'[data-cell="{i},{j}"]').click()
            driver.execute_script("scrollTo(0, 0)")
            driver.save_screenshot(str(STATIC / "report.png"))
        finally:
            driver.quit()


if __name__ == "__main__":
    for name in sys.argv[1:] or ["speed", "minutes", "report"]:
        {"speed": speed, "minutes": minutes, "report": report}[name]()
