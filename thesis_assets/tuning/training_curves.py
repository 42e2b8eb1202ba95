"""The picture of a training: its loss with its parts, its learning rate, and what its evaluations found, over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from thesis_assets.images.line_charts import Chart, Series, line_charts

Curves = Mapping[str, Sequence[float]]


def curves_picture(curves: Curves) -> bytes:
    """A PNG, below 100 KB. `curves`: as `progress_file.read_curves` gives them."""
    return line_charts(training_charts(curves))


def training_charts(curves: Curves) -> list[Chart]:
    """One panel a subject; one without a value is left out when they are drawn."""
    steps, evaluated = curves.get("step", []), curves.get("eval_step", [])
    parts = [name for name in curves if name.startswith("loss_")]
    losses = [_series(steps, curves, "loss", "loss" if not parts else "sum")]
    losses += [_series(steps, curves, name, name.removeprefix("loss_")) for name in parts]
    return [
        Chart("loss", losses, log=True),
        Chart("learning rate", [_series(steps, curves, "learning_rate", "learning rate")]),
        Chart("samples a second", [_series(steps, curves, "samples_per_second", "samples/s")]),
        *(
            Chart(
                f"{title} of test samples",
                [
                    _series(evaluated, curves, f"{metric}_refined", "refined", dots=True),
                    _series(evaluated, curves, f"{metric}_render", "unrefined render", dots=True),
                ],
            )
            for metric, title in (("psnr", "PSNR, dB"), ("ssim", "SSIM"), ("lpips", "LPIPS"))
        ),
    ]


def _series(x: Sequence[float], curves: Curves, name: str, title: str, *, dots: bool = False) -> Series:
    values = curves.get(name, [])
    # An evaluation without this value leaves the series shorter than its steps: which ones they are is not known.
    return Series(title, x, values, dots) if len(values) == len(x) else Series(title, [], [])
