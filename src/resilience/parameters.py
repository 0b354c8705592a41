"""Types of the values that an entry of the config may take.

A function that the config can name (see :mod:`resilience.catalog`) annotates its keyword-only parameters with these
types. The second member of each is a JSON-schema fragment, so the signature is all that validation needs.
"""

from __future__ import annotations

from typing import Annotated, Any

Fraction = Annotated[float, {"minimum": 0, "maximum": 1}]
Share = Annotated[float, {"exclusiveMinimum": 0, "maximum": 1}]
Part = Annotated[float, {"exclusiveMinimum": 0, "exclusiveMaximum": 1}]
#: What is left of the past with each step of a moving average.
MovingAverage = Annotated[float, {"minimum": 0, "exclusiveMaximum": 1}]
Positive = Annotated[float, {"exclusiveMinimum": 0}]
NonNegative = Annotated[float, {"minimum": 0}]
Percent = Annotated[float, {"exclusiveMinimum": 0, "maximum": 100}]
Count = Annotated[int, {"minimum": 1}]
#: Of a dataset that is computed. Two classes need three each: to learn from, to validate and to test on.
Points = Annotated[int, {"minimum": 6, "maximum": 1_000_000}]
NonNegativeCount = Annotated[int, {"minimum": 0}]
#: Of the layers of a network; how many weights that makes depends on the images, see :mod:`resilience.sizes`.
Width = Annotated[int, {"minimum": 1, "maximum": 16384}]
Side = Annotated[int, {"minimum": 1, "maximum": 4096}]
Colour = Annotated[str, {"title": "a colour as `#rrggbb`", "pattern": r"^#[0-9a-fA-F]{6}(?!\n)$"}]
ClassName = Annotated[str, {"minLength": 1, "maxLength": 40}]
Folder = Annotated[str, {"minLength": 1}]

#: What the user brings along: a change of its content, not of its time, makes the job that reads it run again. ``~`` and
#: ``$NAME`` are expanded, and ``{dataset}``, ``{network}`` and ``{seed}`` stand for those of the job.
OwnFile = Annotated[str, {"minLength": 1, "path_to": "file"}]
OwnFolder = Annotated[str, {"minLength": 1, "path_to": "folder"}]

#: How many patches a side of an image is cut into.
Patches = Annotated[int, {"minimum": 2, "maximum": 4096}]

#: Names an entry of another section: ``start: map`` in a training.
TrainingName = Annotated[str, {"name_in": "trainings"}]
DatasetName = Annotated[str, {"name_in": "datasets"}]
ManifoldName = Annotated[str, {"name_in": "manifolds"}]
AttackName = Annotated[str, {"name_in": "attacks"}]
ExplanationName = Annotated[str, {"name_in": "explanations"}]
MeasureName = Annotated[str, {"name_in": "measures", "of": ("maps",)}]
PredictionMeasureName = Annotated[str, {"name_in": "measures", "of": ("predictions",)}]
#: A measure of how far images are from a manifold.
DistanceName = Annotated[str, {"name_in": "measures", "function": "distance_to_manifold"}]
#: A measure of heat maps under attack, or one of an explanation and what it explains.
ExplanationMeasureName = Annotated[str, {"name_in": "measures", "of": ("maps", "explanation")}]
#: A measure that counts top pixels, so that a picture can show them.
OverlapName = Annotated[str, {"name_in": "measures", "function": "overlap"}]

#: Whose explanation it is: that of a network and a training, with a number of draws and a seed.
Explainer = Annotated[
    dict[str, Any],
    {
        "type": "object",
        "properties": {
            "network": {"type": "string", "name_in": "networks"},
            "training": {"type": "string", "name_in": "trainings"},
            "explanation": {"type": "string", "name_in": "explanations"},
            "draws": {"type": "integer", "minimum": 1},
            "seed": {"type": "integer", "minimum": 0},
        },
        "required": ["network", "training", "explanation"],
        "additionalProperties": False,
    },
]

#: Holds an entry of another section: ``attack: {method: fgsm, epsilon: 0.1}`` in a training.
AttackEntry = Annotated[dict[str, Any], {"entry_of": "attacks"}]
RuleEntry = Annotated[dict[str, Any], {"entry_of": "rules"}]
#: The rule of some layers in a composite, which can be no composite.
LayerRuleEntry = Annotated[dict[str, Any], {"entry_of": "rules", "without": "composite"}]
TrainingEntry = Annotated[dict[str, Any], {"entry_of": "trainings"}]
