"""Tiny stock models with random weights, one or more of each family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
import torch
import transformers as hf
from torch import nn

TEXT = {"vocab_size": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
ENCODER = {
    **TEXT,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
}
IMAGE = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "image_size": 8,
    "patch_size": 4,
}
GROUPED = {**ENCODER, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 4}
DISTILBERT = {**TEXT, "dim": 16, "n_layers": 3, "n_heads": 4, "hidden_dim": 24, "max_position_embeddings": 20}
GPT2 = {**TEXT, "n_embd": 16, "n_layer": 3, "n_head": 4, "n_positions": 20, "n_inner": 24}
T5 = {**TEXT, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 3, "num_heads": 4, "decoder_start_token_id": 0}
BART = {
    **TEXT,
    "d_model": 16,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 20,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
DEBERTA = {
    **ENCODER,
    "relative_attention": True,
    "position_buckets": 4,
    "norm_rel_ebd": "layer_norm",
    "pos_att_type": ["p2c", "c2p"],
    "type_vocab_size": 0,
}
TIMM = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 3, "num_heads": 4, "mlp_ratio": 1.5, "num_classes": 5}


def _made(model: str, config: str, **options: Any) -> Callable[..., nn.Module]:
    def make(attention: str | None = None) -> nn.Module:
        made = getattr(hf, config)(**options)
        if attention is not None:
            made._attn_implementation = attention
        return getattr(hf, model)(made)  # type: ignore[no-any-return]

    return make


def _clip(attention: str | None = None) -> nn.Module:
    text, vision = {**ENCODER, "projection_dim": 12}, {**IMAGE, "projection_dim": 12}
    config = hf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
    if attention is not None:
        config._attn_implementation = attention
    return hf.CLIPModel(config)


def _timm(name: str, **options: Any) -> Callable[..., nn.Module]:
    def make(attention: str | None = None) -> nn.Module:
        model = timm.create_model(name, **{**TIMM, **options})
        for module in model.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = attention != "eager"
        return model  # type: ignore[no-any-return]

    return make


MODELS: dict[str, Callable[..., nn.Module]] = {
    "bert": _made("BertForSequenceClassification", "BertConfig", num_labels=3, **ENCODER),
    "bert_base": _made("BertModel", "BertConfig", **ENCODER),
    "bert_mlm": _made("BertForMaskedLM", "BertConfig", **ENCODER),
    "roberta": _made("RobertaForSequenceClassification", "RobertaConfig", **ENCODER),
    "electra": _made("ElectraForSequenceClassification", "ElectraConfig", embedding_size=8, **ENCODER),
    "distilbert": _made("DistilBertForSequenceClassification", "DistilBertConfig", **DISTILBERT),
    "deberta_v2": _made("DebertaV2ForSequenceClassification", "DebertaV2Config", **DEBERTA),
    "vit": _made("ViTForImageClassification", "ViTConfig", num_labels=5, **IMAGE),
    "vit_base": _made("ViTModel", "ViTConfig", **IMAGE),
    "deit": _made("DeiTForImageClassification", "DeiTConfig", num_labels=5, **IMAGE),
    "beit": _made(
        "BeitForImageClassification", "BeitConfig", num_labels=5, use_relative_position_bias=True, vocab_size=9, **IMAGE
    ),
    "timm_vit": _timm("vit_tiny_patch16_224"),
    "timm_deit": _timm("deit_tiny_distilled_patch16_224", init_values=0.1),
    "timm_beit": _timm("beit_base_patch16_224"),
    "timm_eva": _timm("eva02_tiny_patch14_224"),
    "timm_eva_norm": _timm("eva02_base_patch14_224"),
    "timm_eva_plain": _timm("eva_giant_patch14_224"),
    "timm_vit_norm": _timm("vit_tiny_patch16_224", scale_mlp_norm=True, init_values=0.1),
    "llama": _made("LlamaForCausalLM", "LlamaConfig", **GROUPED),
    "llama_classifier": _made("LlamaForSequenceClassification", "LlamaConfig", **GROUPED),
    "mistral": _made("MistralForCausalLM", "MistralConfig", sliding_window=6, **GROUPED),
    "qwen2": _made("Qwen2ForCausalLM", "Qwen2Config", **GROUPED),
    "qwen3": _made("Qwen3ForCausalLM", "Qwen3Config", tie_word_embeddings=True, **GROUPED),
    "gemma": _made("GemmaForCausalLM", "GemmaConfig", **GROUPED),
    "gpt2": _made("GPT2LMHeadModel", "GPT2Config", **GPT2),
    "gpt_neox": _made("GPTNeoXForCausalLM", "GPTNeoXConfig", **ENCODER),
    "t5": _made("T5ForConditionalGeneration", "T5Config", **T5),
    "t5_gated": _made("T5ForConditionalGeneration", "T5Config", feed_forward_proj="gated-gelu", **T5),
    "t5_encoder": _made("T5EncoderModel", "T5Config", **T5),
    "t5_classifier": _made("T5ForSequenceClassification", "T5Config", num_labels=3, **T5),
    "bart_classifier": _made("BartForSequenceClassification", "BartConfig", num_labels=3, **BART),
    "bart": _made("BartForConditionalGeneration", "BartConfig", **BART),
    "marian": _made("MarianMTModel", "MarianConfig", **BART),
    "clip": _clip,
    "clip_vision": _made("CLIPVisionModel", "CLIPVisionConfig", **IMAGE),
    "clip_text": _made("CLIPTextModel", "CLIPTextConfig", **ENCODER),
}
# One of each family for the whole suite in every run; the others differ from them in little, and are slow tests.
VARIANTS = [
    "bert_base",
    "bert_mlm",
    "roberta",
    "electra",
    "vit_base",
    "deit",
    "timm_deit",
    "llama_classifier",
    "mistral",
]
VARIANTS += ["timm_eva_norm", "timm_eva_plain", "timm_vit_norm"]
VARIANTS += [
    "qwen2",
    "gemma",
    "t5_gated",
    "t5_encoder",
    "t5_classifier",
    "bart_classifier",
    "marian",
]
TEXT_MODELS = [name for name in MODELS if not name.startswith(("vit", "deit", "beit", "timm", "clip_vision"))]
GENERATORS = ["llama", "mistral", "qwen2", "qwen3", "gemma", "gpt2", "gpt_neox", "t5", "t5_gated", "bart", "marian"]


def make_model(name: str, attention: str | None = None) -> nn.Module:
    """Return a tiny model in eval mode, the same at each call."""
    torch.manual_seed(0)
    return MODELS[name](attention).eval()
