"""The book's pictures: colours by computation, helpers by what they draw, display by what a notebook would store."""

import base64
import io
import json

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from gentext import plots
from gentext._stored import compact_png, plain

mpl.use("agg")


@pytest.fixture(autouse=True)
def style():
    with mpl.rc_context():
        plots.use_style()
        yield
        plt.close("all")


@pytest.fixture
def shown(monkeypatch):
    """Whatever is displayed, as (bundle, metadata)."""
    outputs = []
    monkeypatch.setattr(
        plots, "display", lambda bundle, *, raw, metadata=None: outputs.append((bundle, metadata)) if raw else None
    )
    return outputs


def signs(n, size=8):
    return torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(0))


def png_of(bundle):
    return Image.open(io.BytesIO(base64.b64decode(bundle["image/png"], validate=True)))


# ---- colours -----------------------------------------------------------------------------------------------------

# Machado, Oliveira & Fernandes 2009, table 1, severity 1.0, on linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
DARK_PAGE = np.array(to_rgb("#14181e"))


def dark_page_filter(rgb):
    """CSS `invert(1) hue-rotate(180deg)` by its matrices (Filter Effects Module Level 1), colours (n, 3) in [0, 1]."""
    luma = np.array([0.213, 0.715, 0.072])
    rotate = 2 * np.tile(luma, (3, 1)) - np.eye(3)  # cos 180° = −1, sin 180° = 0
    return (np.clip(1 - rgb, 0, 1) @ rotate.T).clip(0, 1)


def linear(rgb):
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(a, b):
    """WCAG 2 contrast ratio of two colours (..., 3)."""
    light = [linear(np.asarray(c)) @ [0.2126, 0.7152, 0.0722] + 0.05 for c in (a, b)]
    return np.maximum(*light) / np.minimum(*light)


def oklab(linear_rgb):
    cones = linear_rgb.clip(0) @ np.array(
        [[0.4122214708, 0.2119034982, 0.0883024619], [0.5363325363, 0.6806995451, 0.2817188376],
         [0.0514459929, 0.1073969566, 0.6299787005]]
    )  # fmt: skip
    return np.cbrt(cones) @ np.array(
        [[0.2104542553, 1.9779984951, 0.0259040371], [0.7936177850, -2.4285922050, 0.7827717662],
         [-0.0040720468, 0.4505937099, -0.8086757660]]
    )  # fmt: skip


PALETTE = np.array([to_rgb(value) for value in plots.COLORS.values()])
PAGES = {"light": (PALETTE, np.ones(3)), "dark": (dark_page_filter(PALETTE), DARK_PAGE)}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("sight", SIGHT)
def test_colours_stay_apart_for_every_sight_on_both_pages(page, sight):
    lab = oklab(linear(PAGES[page][0]) @ np.array(SIGHT[sight]).T)
    distance = np.linalg.norm(lab[:, None] - lab, axis=-1) + 9 * np.eye(len(lab))
    assert distance.min() > 0.1


@pytest.mark.parametrize("page", PAGES)
def test_colours_stand_out_from_both_pages(page):
    colours, ground = PAGES[page]
    assert contrast(colours, ground).min() >= 3  # WCAG 1.4.11, graphical objects


def test_text_can_be_read_on_both_pages():
    text = np.array([to_rgb(plots.TEXT), to_rgb(plots.GREY)])
    assert contrast(text, np.ones(3)).min() >= 4.5  # WCAG 1.4.3
    assert contrast(dark_page_filter(text), DARK_PAGE).min() >= 4.5
    assert contrast(to_rgb(plots.INK), to_rgb(plots.PAPER)) > 10


def test_a_colours_name_holds_on_the_dark_page():
    def hue(rgb):
        return np.arctan2(*oklab(linear(rgb))[:, [2, 1]].T)

    turn = np.abs(np.angle(np.exp(1j * (hue(PAGES["dark"][0])[:, None] - hue(PALETTE)))))  # (dark, light)
    assert turn.argmin(1).tolist() == list(range(len(PALETTE)))
    assert np.degrees(turn.diagonal()).max() < 25


def test_groups_differ_in_colour_or_marker():
    groups = [(plots.color(i), plots.marker(i)) for i in range(42)]
    assert len(set(groups)) == 42
    assert plots.color(0) == plots.COLORS["blue"] == plots.color(6)


# ---- showing -----------------------------------------------------------------------------------------------------


def test_show_displays_once_on_a_clear_ground_with_its_alternative_and_closes(shown):
    fig, ax = plt.subplots()
    ax.plot([0, 1], [0, 1])
    plots.show(fig, "  The line rises.\n")
    ((bundle, metadata),) = shown
    assert set(bundle) == {"text/plain", "image/png"}
    assert bundle["text/plain"] == "<Figure>"
    image = png_of(bundle).convert("RGBA")
    assert image.getpixel((2, 2))[3] == 0
    assert metadata["image/png"] == {
        "alt": "The line rises.", "width": round(image.width / 2), "height": round(image.height / 2)
    }  # fmt: skip
    assert not plt.fignum_exists(fig.number)


def test_the_same_figure_gives_the_same_bytes(shown):
    for _ in range(2):
        fig, ax = plt.subplots()
        ax.plot([0, 1, 0])
        plots.show(fig, "A peak.")
    assert shown[0] == shown[1]


def test_a_wide_figure_is_stored_at_single_resolution(shown):
    plots.show(plt.figure(figsize=(8, 1)), "Nothing.")
    fig, ax = plt.subplots(figsize=(8, 1))
    ax.plot([0, 1])
    plots.show(fig, "A line.")
    bundle, metadata = shown[-1]
    assert png_of(bundle).width == metadata["image/png"]["width"] < 900


@pytest.mark.parametrize("alt", ["", "  \n", None])
def test_a_figure_without_alternative_is_refused(alt, shown):
    go = pytest.importorskip("plotly.graph_objects")
    with pytest.raises(ValueError, match="needs a text alternative"):
        plots.show(plt.figure(), alt)
    with pytest.raises(ValueError, match="needs a text alternative"):
        plots.interactive(go.Figure(), plt.figure(), alt)
    assert not shown


def test_compact_png_keeps_the_look_and_saves_space():
    fig, ax = plt.subplots()
    for index, name in enumerate(plots.COLORS):
        ax.plot([0, 1, 2], [index, -index, index * 0.3], color=plots.COLORS[name])
    buffer = io.BytesIO()
    fig.savefig(buffer, dpi=110)
    full = Image.open(buffer).convert("RGBA")
    png, size = compact_png(full)
    small = Image.open(io.BytesIO(png))
    assert small.mode == "P"
    assert small.size == full.size == size
    assert len(png) < 0.6 * len(buffer.getvalue())
    for ground in ("white", "black"):
        seen = [np.asarray(Image.alpha_composite(Image.new("RGBA", size, ground), im.convert("RGBA")), dtype=int)
                for im in (full, small)]  # fmt: skip
        assert np.abs(seen[0] - seen[1]).max() <= 26


def test_compact_png_leaves_a_photograph_alone():
    photograph = np.random.default_rng(0).integers(0, 256, (64, 64, 4), dtype=np.uint8)
    png, _ = compact_png(Image.fromarray(photograph))
    assert (np.asarray(Image.open(io.BytesIO(png))) == photograph).all()


# ---- plotly ------------------------------------------------------------------------------------------------------


def test_interactive_stores_plain_json_beside_the_poster(shown):
    go = pytest.importorskip("plotly.graph_objects")
    figure = go.Figure(go.Scatter(x=np.linspace(0, 1, 4), y=np.float32([1, 2, np.nan, np.inf])))
    figure.add_heatmap(z=np.arange(6).reshape(2, 3) / 7)
    poster, ax = plt.subplots()
    ax.plot([0, 1])
    plots.interactive(figure, poster, "It rises.")
    ((bundle, metadata),) = shown
    assert set(bundle) == {"text/plain", "image/png", "application/vnd.plotly.v1+json"}
    spec = bundle["application/vnd.plotly.v1+json"]
    assert json.loads(json.dumps(spec, allow_nan=False)) == spec
    assert spec["data"][0]["x"] == [0.0, 0.33333, 0.66667, 1.0]
    assert spec["data"][0]["y"] == [1.0, 2.0, None, None]
    assert spec["data"][1]["z"] == [[0.0, 0.14286, 0.28571], [0.42857, 0.57143, 0.71429]]
    assert spec["layout"]["template"]["layout"]["colorway"] == list(plots.COLORS.values())
    assert metadata["image/png"]["alt"] == metadata["application/vnd.plotly.v1+json"]["alt"] == "It rises."
    assert not plt.fignum_exists(poster.number)
    go.Figure({key: spec[key] for key in ("data", "layout")})  # plotly reads its own back


def test_interactive_brings_its_own_html_in_colab(shown, monkeypatch):
    go = pytest.importorskip("plotly.graph_objects")
    monkeypatch.setitem(__import__("sys").modules, "google.colab", object())
    plots.interactive(go.Figure(go.Bar(y=[1, 3])), plt.figure(figsize=(2, 2)), "Three is more.")
    assert "plotly" in shown[0][0]["text/html"].lower()


def test_plain_reads_packed_and_unpacked_arrays_alike():
    array = np.arange(6, dtype="int16").reshape(2, 3)
    packed = {"dtype": "i2", "bdata": base64.b64encode(array.tobytes()).decode(), "shape": "2, 3"}
    as_lists = [[0, 1, 2], [3, 4, 5]]
    assert plain({"a": packed, "b": array, "c": as_lists, "d": torch.from_numpy(array)}) == dict.fromkeys(
        "abcd", as_lists
    )
    assert plain([np.float64(1 / 3), True, None, "x", (1,)]) == [0.33333, True, None, "x", [1]]


# ---- kinds of picture --------------------------------------------------------------------------------------------


def test_image_grid_draws_ink_dark_on_light_in_reading_order():
    images = torch.zeros(5, 1, 8, 8)
    images[3] = 1  # second row, first column
    fig = plots.image_grid(images, columns=3, row_labels=["first", "second"], column_labels=list("abc"), title="Title")
    (ax,) = fig.axes
    canvas = ax.images[0].get_array()  # (2 * 8 + gap, 3 * 8 + 2 gaps, 4)
    np.testing.assert_allclose(canvas[4, 4, :3], to_rgb(plots.PAPER), atol=0.01)
    np.testing.assert_allclose(canvas[-4, 4, :3], to_rgb(plots.INK), atol=0.01)
    assert canvas[-4, -4, 3] == 0  # the sixth place is empty: clear
    assert [label.get_text() for label in ax.get_yticklabels()] == ["first", "second"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b", "c"]
    assert ax.get_title(loc="left") == "Title"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("columns", [1, 4, 30])
def test_image_grid_fits_the_text_column(columns, shown):
    plots.show(plots.image_grid(signs(30), columns=columns, row_labels=["label"] * -(-30 // columns)), "Noise.")
    assert shown[0][1]["image/png"]["width"] <= 700


def test_image_grid_takes_numpy_and_cuts_what_is_out_of_range():
    fig = plots.image_grid(np.array([[[-3.0, 9.0]]]).repeat(2, axis=1), columns=4)
    canvas = fig.axes[0].images[0].get_array()
    np.testing.assert_allclose(canvas[0, 0, :3], to_rgb(plots.PAPER), atol=0.01)
    np.testing.assert_allclose(canvas[0, -1, :3], to_rgb(plots.INK), atol=0.01)


def test_learning_curves_name_and_dash():
    fig = plots.learning_curves(
        {"train": ([0, 1], [3.0, 2.0]), "validation": ([0, 1], [3.5, 2.5])},
        ylabel="loss (nats)",
        log_x=True,
        log_y=True,
        title="Both fall",
    )
    (ax,) = fig.axes
    assert [(line.get_label(), line.get_linestyle()) for line in ax.lines] == [("train", "-"), ("validation", "--")]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_xscale()) == ("training step", "loss (nats)", "log")
    assert plots.learning_curves({"one": ([0], [1])}, ylabel="y").axes[0].get_legend() is None


def test_thumbnail_map_draws_signs_where_there_is_room():
    points = torch.tensor([[0.0, 0.0], [0.001, 0.0], [1.0, 1.0]])  # the second would cover the first
    fig = plots.thumbnail_map(points, signs(3), labels=torch.tensor([0, 1, 2]), title="Map")
    (ax,) = fig.axes
    thumbnails = [artist for artist in ax.artists if hasattr(artist, "offsetbox")]
    assert [tuple(box.xy) for box in thumbnails] == [(0.0, 0.0), (1.0, 1.0)]
    assert len(ax.collections[0].get_offsets()) == 3  # every point is a dot
    ink = thumbnails[1].offsetbox.get_data()
    np.testing.assert_allclose(ink[..., :3], np.broadcast_to(to_rgb(plots.color(2)), ink[..., :3].shape), atol=1e-6)
    np.testing.assert_allclose(ink[..., 3], signs(3)[2, 0], atol=1e-6)
    few = plots.thumbnail_map(torch.rand(9, 2, generator=torch.Generator().manual_seed(0)), signs(9), max_thumbnails=2)
    assert sum(hasattr(artist, "offsetbox") for artist in few.axes[0].artists) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.image_grid(signs(0), columns=2), "n at least 1"),
        (lambda: plots.image_grid(signs(2).expand(2, 3, 8, 8), columns=2), r"must have shape \(n, 1, H, W\)"),
        (lambda: plots.image_grid(signs(2), columns=0), "columns must be at least 1"),
        (lambda: plots.image_grid(signs(5), columns=3, row_labels=["a"]), r"row_labels must have 2 entries \(5 images"),
        (lambda: plots.image_grid(signs(5), columns=3, column_labels=["a"]), "column_labels must have 3 entries"),
        (lambda: plots.learning_curves({}, ylabel="y"), "no curves"),
        (lambda: plots.learning_curves({"a": ([1], [1, 2])}, ylabel="y"), "as many steps as values, got 1 and 2"),
        (lambda: plots.thumbnail_map(torch.zeros(3, 2), signs(2)), r"points must have shape \(2, 2\)"),
        (lambda: plots.thumbnail_map(torch.zeros(2, 2), signs(2), labels=torch.zeros(3)), r"labels must have shape"),
    ],
)
def test_wrong_input_is_refused_with_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
