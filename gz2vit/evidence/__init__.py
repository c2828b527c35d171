"""What the numbers prove: intervals, tests, calibration, and verdicts in words.

Works on tables of predictions (`gz2vit.evaluation.read_predictions`) and galaxy properties; only
`gathering` and `tables` know files, and nothing here draws. At the level
0.05, with 95 % intervals, unless told otherwise.
"""

from gz2vit.evidence.calibration import (
    error_if_calibrated,
    expected_calibration_error,
    probabilities_of,
    reliability,
)
from gz2vit.evidence.claims import (
    FIG4_PROPERTIES,
    MAGNITUDE,
    SIZE,
    Property,
    claim_apart,
    claim_better_metric,
    claim_fig4,
    claim_growing_lead,
    claim_more_accurate,
    claim_overconfident,
    claim_scaling_helps,
)
from gz2vit.evidence.comparison import (
    Comparison,
    compare_counts,
    compare_models,
    compare_right,
    metric_differences,
)
from gz2vit.evidence.corrections import benjamini_hochberg, holm
from gz2vit.evidence.distributions import Separation, cliffs_delta, compare_groups, separation
from gz2vit.evidence.gathering import (
    FIG4_COLUMNS,
    GalaxyTable,
    Gathered,
    gather_answers,
    gather_pair,
    gather_predictions,
)
from gz2vit.evidence.intervals import Interval, metric_intervals
from gz2vit.evidence.lead import Trend, lead_trend
from gz2vit.evidence.precision_recall import average_precisions, precision_recall_curves
from gz2vit.evidence.published import (
    PUBLISHED_NAMES,
    claim_published_fig4,
    published_edges,
    published_galaxies,
)
from gz2vit.evidence.questions import (
    ACCURACY,
    CALIBRATION,
    WEIGHTS,
    ask_accuracy,
    ask_calibration,
    ask_class_weights,
    judge_fig4,
    ranked,
    separate_fig4,
)
from gz2vit.evidence.regions import (
    REGIONS,
    WithProperties,
    join_predictions,
    region_counts,
    right_table,
    with_properties,
)
from gz2vit.evidence.tables import (
    evidence_table,
    judge_families,
    read_verdict_table,
    undecided,
    verdicts_markdown,
    verdicts_table,
    write_table,
)
from gz2vit.evidence.temperature import (
    Calibration,
    apply_temperature,
    calibrate,
    cross_fit,
    fit_temperature,
    reliability_pair,
    scale,
)
from gz2vit.evidence.trends import (
    accuracy_in_bins,
    accuracy_trends,
    compare_at_end,
    difference_in_bins,
)
from gz2vit.evidence.verdicts import ALPHA, Finding, Verdict, decide, judge, smallest_effect

__all__ = [
    "ACCURACY",
    "ALPHA",
    "CALIBRATION",
    "FIG4_COLUMNS",
    "FIG4_PROPERTIES",
    "MAGNITUDE",
    "PUBLISHED_NAMES",
    "REGIONS",
    "SIZE",
    "WEIGHTS",
    "Calibration",
    "Comparison",
    "Finding",
    "GalaxyTable",
    "Gathered",
    "Interval",
    "Property",
    "Separation",
    "Trend",
    "Verdict",
    "WithProperties",
    "accuracy_in_bins",
    "accuracy_trends",
    "apply_temperature",
    "ask_accuracy",
    "ask_calibration",
    "ask_class_weights",
    "average_precisions",
    "benjamini_hochberg",
    "calibrate",
    "claim_apart",
    "claim_better_metric",
    "claim_fig4",
    "claim_growing_lead",
    "claim_more_accurate",
    "claim_overconfident",
    "claim_published_fig4",
    "claim_scaling_helps",
    "cliffs_delta",
    "compare_at_end",
    "compare_counts",
    "compare_groups",
    "compare_models",
    "compare_right",
    "cross_fit",
    "decide",
    "difference_in_bins",
    "error_if_calibrated",
    "evidence_table",
    "expected_calibration_error",
    "fit_temperature",
    "gather_answers",
    "gather_pair",
    "gather_predictions",
    "holm",
    "join_predictions",
    "judge",
    "judge_families",
    "judge_fig4",
    "lead_trend",
    "metric_differences",
    "metric_intervals",
    "precision_recall_curves",
    "probabilities_of",
    "published_edges",
    "published_galaxies",
    "ranked",
    "read_verdict_table",
    "region_counts",
    "reliability",
    "reliability_pair",
    "right_table",
    "scale",
    "separate_fig4",
    "separation",
    "smallest_effect",
    "undecided",
    "verdicts_markdown",
    "verdicts_table",
    "with_properties",
    "write_table",
]
