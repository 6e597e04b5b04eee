"""What a finished run shows: tables, figures and a model card, made from its folder alone, without torch."""

from wsopt.report._card import model_card
from wsopt.report._figures import write_figures
from wsopt.report._labels import amount, duration, metric_label
from wsopt.report._record import PairedSamples, RunRecord, ScoreRow, Trace, Trial
from wsopt.report._table import results_markdown, results_table

__all__ = [
    "PairedSamples",
    "RunRecord",
    "ScoreRow",
    "Trace",
    "Trial",
    "amount",
    "duration",
    "metric_label",
    "model_card",
    "results_markdown",
    "results_table",
    "write_figures",
]
