"""Galaxy Zoo 2's catalogues: votes, the rule that makes classes of them, ids and properties."""

from gz2vit.galaxy_zoo.agreement import Agreement, compare_labels
from gz2vit.galaxy_zoo.explanation import explain_class
from gz2vit.galaxy_zoo.identifiers import read_mapping, rename_to_assets, rename_to_objects
from gz2vit.galaxy_zoo.labels import (
    NO_CLASS,
    class_counts,
    derive_classes,
    label_table,
    split_galaxies,
    write_label_tables,
)
from gz2vit.galaxy_zoo.properties import read_sample, write_properties
from gz2vit.galaxy_zoo.recovery import Recovery, recover_rule, rule_forms
from gz2vit.galaxy_zoo.rules import DEFAULT_RULE, Rule, read_rule, write_rule
from gz2vit.galaxy_zoo.votes import read_votes

__all__ = [
    "DEFAULT_RULE",
    "NO_CLASS",
    "Agreement",
    "Recovery",
    "Rule",
    "class_counts",
    "compare_labels",
    "derive_classes",
    "explain_class",
    "label_table",
    "read_mapping",
    "read_rule",
    "read_sample",
    "read_votes",
    "recover_rule",
    "rule_forms",
    "rename_to_assets",
    "rename_to_objects",
    "split_galaxies",
    "write_label_tables",
    "write_properties",
    "write_rule",
]
