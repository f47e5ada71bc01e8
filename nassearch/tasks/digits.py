"""scikit-learn's handwritten digits, made harder: the default task, which needs no download."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nassearch.tasks.options import SMOOTHING_OPTION, Option, TaskRequest
from nassearch.tasks.registry import register_task

if TYPE_CHECKING:
    from nassearch.tasks.base import Task

_OPTIONS = (
    Option("train", "int", 600, "number of training digits", minimum=10),
    Option("calibration", "int", 128, "number of digits for normalisation statistics", minimum=10),
    Option("search", "int", 400, "number of digits the search sees", minimum=10),
    Option("report", "int", 600, "number of digits the final report uses", minimum=10),
    Option("draws", "int", 2, "drawings of each search and report digit", minimum=1, maximum=100),
    Option("noise", "float", 0.12, "pixel noise as a fraction of the full contrast", minimum=0, maximum=2),
    Option("shift", "float", 1.5, "greatest shift from the centre, pixels", minimum=0, maximum=6),
    Option("clutter", "int", 1, "5x5 pieces of other digits on each canvas", minimum=0, maximum=20),
    SMOOTHING_OPTION,
)


@register_task("digits", usage="digits", options=_OPTIONS)
def build(request: TaskRequest) -> Task:
    """Real handwritten digits (1,797, in scikit-learn), moved, scaled and cluttered on 16x16 canvases."""
    from sklearn.datasets import load_digits

    from nassearch.tasks.canvas import DigitCanvas
    from nassearch.tasks.classification import ImageClassification
    from nassearch.tasks.splits import SPLITS, make_splits

    options = request.options
    loaded = load_digits()
    digits = np.rint(loaded.images * (255 / 16)).astype(np.uint8)
    classes = loaded.target.astype(np.int64)
    names = [str(name) for name in range(10)]
    chosen = make_splits(classes, names, {name: options[name] for name in SPLITS}, seed=request.seed)

    hardness = {key: options[key] for key in ("noise", "shift", "clutter")}
    train_canvas = DigitCanvas(digits[chosen["train"]], **hardness)
    drawn, labels, splits, start = [], [], {}, 0
    for number, name in enumerate(SPLITS):
        # Clutter, too, comes from a split's own digits: no pixel of one split is in another.
        canvas = DigitCanvas(digits[chosen[name]], **hardness)
        rng = np.random.default_rng(np.random.SeedSequence([request.seed, 0xD161, number]))
        rows = np.arange(len(chosen[name]))
        for _ in range(options["draws"] if name in ("search", "report") else 1):
            drawn.append(canvas.draw(rows, rng))
            labels.append(classes[chosen[name]])
        end = sum(len(part) for part in labels)
        splits[name] = np.arange(start, end)
        start = end

    from nassearch.tasks.image_task import PRETRAINED_DEFAULTS, statistics_of
    from nassearch.tasks.images import ArrayImages
    from nassearch.tasks.pretrained import image_facts

    facts = image_facts(request)
    return ImageClassification(
        name=request.name,
        spec=request.spec,
        source=ArrayImages(np.concatenate(drawn)),
        labels=np.concatenate(labels),
        splits=splits,
        class_names=names,
        seed=request.seed,
        augmentation=train_canvas,
        label_smoothing=options["label_smoothing"],
        statistics=statistics_of(facts, 1, request),
        image_size=facts.size,
        # About 75 CPU seconds of the sandwich rule on mobilenetv3-tiny.
        training_defaults=PRETRAINED_DEFAULTS
        if request.model
        else {
            "epochs": 36,
            "batch_size": 32,
            "lr": 0.15,
            "evaluate_every": 162,
            "options": {"sandwich": {"random_subnets": 1}},
        },
        details={
            "source": "scikit-learn load_digits: 1,797 handwritten digits of 8x8 pixels (UCI, NIST forms)",
            "digits": {name: len(chosen[name]) for name in SPLITS},
            "images": (
                f"each 8x8 digit is enlarged bilinearly to 10-14 pixels, shifted by up to {options['shift']:g} pixels "
                f"on a 16x16 canvas, drawn at 50-100 % contrast, crossed by {options['clutter']} 5x5 pieces of other "
                f"digits of its split, with Gaussian noise of {100 * options['noise']:g} % of the full contrast; "
                f"search and report digits are drawn {options['draws']} times each and calibration digits once, fixed "
                "by the seed; training draws every digit afresh in each epoch"
            ),
        },
    )
