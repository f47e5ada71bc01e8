"""Leaving with an ordinary model: formats by name, each checked against the subnet before it counts."""

from nassearch.exports import onnx_model as onnx_model  # registers its format
from nassearch.exports import state_dict as state_dict
from nassearch.exports import timm_folder as timm_folder
from nassearch.exports import torch_program as torch_program
from nassearch.exports import transformers_folder as transformers_folder
from nassearch.exports.base import ExportFormat, Subject, list_exports, make_export, register_export
from nassearch.exports.export import ExportResult, export, export_subject, subject_of

__all__ = [
    "ExportFormat",
    "ExportResult",
    "Subject",
    "export",
    "export_subject",
    "list_exports",
    "make_export",
    "register_export",
    "subject_of",
]
