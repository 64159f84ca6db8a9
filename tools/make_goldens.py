#!/usr/bin/env python3
"""Logit goldens: tiny random models of every supported architecture, judged by `transformers`.

    tools/make_goldens.py [NAME ...]        # default: all of MODELS

Writes tests/golden/<name>/: config.json, safetensors (in the dtype and number of shards of MODELS), tokenizer.json and
logits.bin; tests/golden/README.md has the layout.  The config is written by hand in the form that published checkpoints
have, and transformers reads it back, so the reading of the config is part of what is tested.

Weights: matrices N(0, 1/fan-in) times a gain that makes attention selective, norm gains around 1, biases large enough to
matter; so that every operator moves the logits by far more than the tolerance.  `check()` proves that for the ones that are
easily forgotten: it removes a feature (window, RoPE scaling, biases, q/k norms) and demands that the logits change.

Needs: torch (CPU will do), transformers, safetensors, tokenizers, numpy.
"""
import copy
import json
import pathlib
import re
import shutil
import struct
import sys
import tempfile

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.integrations.bitnet import pack_weights
from transformers.integrations.mxfp4 import FP4_VALUES, convert_moe_packed_tensors

import tokenizer_families as tf

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "tests" / "golden"
N_TOKENS, N_PROMPT, N_GREEDY, MARGIN = 48, 16, 64, 0.02
WEIGHTS = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
LONG = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}

COMMON = {"hidden_act": "silu", "initializer_range": 0.02, "vocab_size": 512, "num_hidden_layers": 3, "attention_dropout": 0.0,
          "use_cache": True}

BOUNDS = {"bos_token_id": ["<|begin_of_text|>", "<s>", "<|endoftext|>"], "eos_token_id": ["</s>", "<|endoftext|>"]}

# name: (stored dtype, shards, tokenizer family, the feature that must matter or what config.json says without it, config)
MODELS = {
    "llama2": ("f16", 1, "llama2", None, {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 172,
        "num_attention_heads": 8, "num_key_value_heads": 8, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "rope_scaling": None, "pretraining_tp": 1, "attention_bias": False,
        "tie_word_embeddings": False}),
    "llama3": ("bf16", 3, "llama3", "rope_scaling", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 96, "intermediate_size": 172,
        "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5, "rope_theta": 5000.0, "attention_bias": False, "mlp_bias": False, "pretraining_tp": 1,
        "rope_scaling": {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                         "original_max_position_embeddings": 64, "rope_type": "llama3"},
        "tie_word_embeddings": True}),
    "mistral": ("bf16", 1, "mistral", "sliding_window", {
        "architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_size": 64, "intermediate_size": 144,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 24, "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}, "sliding_window": 16,
        "tie_word_embeddings": False}),
    "qwen2": ("f32", 2, "qwen2", "bias", {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 56, "intermediate_size": 132,
        "num_attention_heads": 7, "num_key_value_heads": 1, "max_position_embeddings": 256, "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0, "sliding_window": 16, "use_sliding_window": False, "max_window_layers": 2,
        "tie_word_embeddings": True}),
    "qwen3": ("bf16", 1, "qwen2", "qk_norm", {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 172, "intermediate_size": 60,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "rope_scaling": None, "attention_bias": False, "sliding_window": None,
        "use_sliding_window": False, "max_window_layers": 3, "tie_word_embeddings": True}),
    "qwen3moe": ("bf16", 2, "qwen2", "norm_topk_prob", {
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 72, "intermediate_size": 136,
        "moe_intermediate_size": 44, "num_experts": 7, "num_experts_per_tok": 3, "norm_topk_prob": True, "decoder_sparse_step": 1,
        "mlp_only_layers": [], "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "rope_scaling": None,
        "attention_bias": False, "sliding_window": None, "use_sliding_window": False, "max_window_layers": 3,
        "tie_word_embeddings": False}),
    "mixtral": ("f16", 1, "mistral", "router", {
        "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_size": 64, "intermediate_size": 60,
        "num_local_experts": 5, "num_experts_per_tok": 2, "num_attention_heads": 8, "num_key_value_heads": 4,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 1000000.0, "sliding_window": None,
        "tie_word_embeddings": False}),
    "olmoe": ("bf16", 1, "qwen2", "qk_norm", {
        "architectures": ["OlmoeForCausalLM"], "model_type": "olmoe", "hidden_size": 64, "intermediate_size": 60,
        "num_experts": 8, "num_experts_per_tok": 3, "norm_topk_prob": False, "clip_qkv": None, "num_attention_heads": 4,
        "num_key_value_heads": 4, "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "rope_scaling": None, "attention_bias": False, "tie_word_embeddings": False}),
    "bitnet": ("bf16", 1, "llama3", "sub_norm", {
        "architectures": ["BitNetForCausalLM"], "model_type": "bitnet", "hidden_size": 72, "intermediate_size": 100,
        "hidden_act": "relu2", "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": True}),
}
GEMMA = {"hidden_size": 72, "intermediate_size": 100, "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "head_dim": 16,
         "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "attention_bias": False, "tie_word_embeddings": True}
MODELS |= {
    "gemma": ("bf16", 1, "llama2", None, {
        **GEMMA, "architectures": ["GemmaForCausalLM"], "model_type": "gemma", "hidden_act": "gelu", "num_attention_heads": 4, "num_key_value_heads": 1}),
    "gemma2": ("bf16", 1, "llama2", {"attn_logit_softcapping": None}, {
        **GEMMA, "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
        "attn_logit_softcapping": 6.0, "final_logit_softcapping": 20.0, "query_pre_attn_scalar": 24, "sliding_window": 16}),
    "gemma3": ("bf16", 2, "llama2", {"sliding_window": 256}, {
        **GEMMA, "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "num_hidden_layers": 7, "hidden_size": 56, "num_attention_heads": 4,
        "num_key_value_heads": 1, "query_pre_attn_scalar": 16, "sliding_window": 8, "sliding_window_pattern": 6, "rope_theta": 1000000.0,
        "rope_local_base_freq": 100.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
    "olmo2": ("bf16", 1, "qwen2", "post_norm", {
        "architectures": ["Olmo2ForCausalLM"], "model_type": "olmo2", "hidden_size": 72, "intermediate_size": 100, "num_attention_heads": 6,
        "num_key_value_heads": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 500000.0, "attention_bias": False,
        "tie_word_embeddings": False}),
    "smollm3": ("bf16", 1, "llama3", {"no_rope_layers": [1, 1, 1, 1, 1]}, {
        "architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3", "hidden_size": 64, "intermediate_size": 100, "num_hidden_layers": 5,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 5000000.0,
        "no_rope_layers": [1, 1, 1, 0, 1], "no_rope_layer_interval": 4, "use_sliding_window": False, "sliding_window": None, "attention_bias": False,
        "mlp_bias": False, "pad_token_id": 0, "tie_word_embeddings": True}),
    "granite": ("bf16", 1, "gpt2", {"residual_multiplier": 1.0}, {
        "architectures": ["GraniteForCausalLM"], "model_type": "granite", "hidden_size": 64, "intermediate_size": 100, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "embedding_multiplier": 6.0,
        "attention_multiplier": 0.125, "residual_multiplier": 0.6, "logits_scaling": 0.5, "attention_bias": False, "mlp_bias": False,
        "tie_word_embeddings": True}),
    "starcoder2": ("f16", 1, "gpt2", "bias", {
        "architectures": ["Starcoder2ForCausalLM"], "model_type": "starcoder2", "hidden_size": 72, "intermediate_size": 100, "num_attention_heads": 6,
        "num_key_value_heads": 2, "hidden_act": "gelu_pytorch_tanh", "mlp_type": "default", "max_position_embeddings": 256, "norm_epsilon": 1e-5,
        "rope_theta": 100000.0, "sliding_window": 16, "use_bias": True, "tie_word_embeddings": True}),
    "gpt2": ("f16", 1, "gpt2", "positions", {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 72, "n_layer": 3, "n_head": 6, "n_inner": 100, "n_positions": 160, "n_ctx": 160,
        "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True}),
    "phi3": ("bf16", 1, "llama2", {"sliding_window": None}, {
        "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "hidden_size": 64, "intermediate_size": 100, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 256, "original_max_position_embeddings": 256, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "rope_scaling": None, "sliding_window": 16, "attention_bias": False, "pad_token_id": 0, "tie_word_embeddings": False}),
}
MODELS |= {
    "mamba2": ("bf16", 2, "qwen2", {"time_step_limit": [0.0, float("inf")]}, {
        "architectures": ["Mamba2ForCausalLM"], "model_type": "mamba2", "hidden_size": 72, "num_heads": 6, "head_dim": 24, "expand": 2, "n_groups": 2,
        "state_size": 20, "conv_kernel": 3, "chunk_size": 16, "layer_norm_epsilon": 1e-5, "use_bias": False, "use_conv_bias": True,
        "residual_in_fp32": True, "rms_norm": True, "rescale_prenorm_residual": False, "time_step_rank": 5, "time_step_min": 0.001,
        "time_step_max": 0.1, "time_step_floor": 0.0001, "time_step_limit": [0.1, 1.0], "pad_token_id": 0, "tie_word_embeddings": False}),
    "granitehybrid": ("bf16", 1, "gpt2", "ssm_norm", {
        "architectures": ["GraniteMoeHybridForCausalLM"], "model_type": "granitemoehybrid", "hidden_size": 64, "intermediate_size": 84,
        "shared_intermediate_size": 100, "num_hidden_layers": 5, "layer_types": ["mamba", "mamba", "attention", "mamba", "attention"],
        "num_attention_heads": 4, "num_key_value_heads": 2, "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_expand": 2, "mamba_n_groups": 1,
        "mamba_d_state": 24, "mamba_d_conv": 4, "mamba_chunk_size": 16, "mamba_conv_bias": True, "mamba_proj_bias": False,
        "time_step_limit": [0.0, float("inf")], "num_local_experts": 0, "num_experts_per_tok": 0, "position_embedding_type": "nope",
        "normalization_function": "rmsnorm", "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": None,
        "embedding_multiplier": 6.0, "attention_multiplier": 0.125, "residual_multiplier": 0.6, "logits_scaling": 0.5, "attention_bias": False,
        "pad_token_id": 0, "tie_word_embeddings": True}),
}
GRANITE_MOE = {"num_local_experts": 7, "num_experts_per_tok": 3, "intermediate_size": 28}
MODELS["granitemoe"] = ("bf16", 1, "gpt2", ("router", {"residual_multiplier": 1.0}), {
    **MODELS["granite"][4], **GRANITE_MOE, "architectures": ["GraniteMoeForCausalLM"], "model_type": "granitemoe"})
MODELS["granitehybrid_moe"] = ("bf16", 2, "gpt2", ("router", "shared_mlp", "ssm_norm"), {
    **MODELS["granitehybrid"][4], **GRANITE_MOE, "num_hidden_layers": 4, "layer_types": ["mamba", "attention", "mamba", "mamba"], "shared_intermediate_size": 60})
MODELS["granite4"] = ("bf16", 1, "gpt2", {"position_embedding_type": "nope"}, {
    **MODELS["granitehybrid"][4], "num_hidden_layers": 3, "layer_types": ["attention"] * 3, "position_embedding_type": "rope", "shared_intermediate_size": 84})
SCALED = ("granite4", "granitemoe", "granitehybrid_moe", "gpt2", "gemma3_vision", "gemma", "gemma2", "gemma3", "granite", "granitehybrid")    # their embeddings are multiplied; GPT-2 has positions beside them
DISTINCT = {"gemma2": 7}    # capped scores make dull texts
PHI3 = MODELS["phi3"][4]
MODELS["phi3_long"] = ("bf16", 1, "llama2", {"rope_scaling": None}, {
    **PHI3, "head_dim": 16, "partial_rotary_factor": 0.75, "sliding_window": None, "original_max_position_embeddings": 8,
    "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.1, 1.3, 1.7, 2.2, 3.0], "long_factor": [1.0, 1.5, 2.5, 4.0, 7.0, 9.0]}})
MODELS["qwen2_yarn"] = ("bf16", 1, "qwen2", {"rope_scaling": None}, {
    **MODELS["qwen2"][4], "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "rope_theta": 10000.0,
    "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}})
MODELS["gemma3_vision"] = ("bf16", 1, "llama2", None, {
    "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "mm_tokens_per_image": 4, "tie_word_embeddings": True,
    "text_config": {k: v for k, v in {**MODELS["gemma3"][4], "vocab_size": 512, "num_key_value_heads": 4, "num_attention_heads": 8}.items()
                    if k not in ("architectures", "num_key_value_heads", "num_attention_heads")},
    "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                      "image_size": 28, "patch_size": 14}})
QWEN2_MOE = {
    "architectures": ["Qwen2MoeForCausalLM"], "model_type": "qwen2_moe", "hidden_size": 72, "intermediate_size": 100, "moe_intermediate_size": 44,
    "shared_expert_intermediate_size": 60, "num_experts": 7, "num_experts_per_tok": 3, "norm_topk_prob": False, "decoder_sparse_step": 1, "mlp_only_layers": [],
    "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "rope_scaling": None,
    "sliding_window": None, "use_sliding_window": False, "max_window_layers": 3, "tie_word_embeddings": False}
MODELS["qwen2moe"] = ("bf16", 1, "qwen2", "shared_gate", QWEN2_MOE)
MODELS["qwen2moe_dense"] = ("bf16", 1, "qwen2", "shared_gate", {**QWEN2_MOE, "num_hidden_layers": 5, "decoder_sparse_step": 2, "mlp_only_layers": [3], "hidden_size": 48, "num_attention_heads": 4})
NEOX = {
    "architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "hidden_size": 72, "intermediate_size": 100, "num_attention_heads": 6, "hidden_act": "gelu",
    "max_position_embeddings": 256, "rotary_pct": 0.5, "rotary_emb_base": 10000, "layer_norm_eps": 1e-5, "use_parallel_residual": True, "attention_bias": True,
    "tie_word_embeddings": False}
MODELS["gptneox"] = ("f16", 1, "gpt2", {"use_parallel_residual": False}, NEOX)
MODELS["gptneox_serial"] = ("f16", 2, "gpt2", "bias", {**NEOX, "use_parallel_residual": False, "rotary_pct": 0.25, "hidden_size": 64, "num_attention_heads": 4})
MODELS["stablelm"] = ("bf16", 1, "gpt2", "bias", {
    "architectures": ["StableLmForCausalLM"], "model_type": "stablelm", "hidden_size": 72, "intermediate_size": 100, "num_attention_heads": 6, "num_key_value_heads": 3,
    "max_position_embeddings": 256, "layer_norm_eps": 1e-5, "partial_rotary_factor": 0.5, "rope_theta": 10000, "use_qkv_bias": True, "qk_layernorm": False,
    "use_parallel_residual": False, "tie_word_embeddings": False})
MODELS["mistral3"] = ("bf16", 1, "mistral", None, {
    "architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3", "spatial_merge_size": 2, "image_token_index": 10, "tie_word_embeddings": False,
    "text_config": {k: v for k, v in {**MODELS["mistral"][4], "vocab_size": 512, "num_hidden_layers": 3, "sliding_window": None, "hidden_act": "silu"}.items() if k != "architectures"},
    "vision_config": {"model_type": "pixtral", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "image_size": 28, "patch_size": 14}})
MINISTRAL_ROPE = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16, "max_position_embeddings": 256,
                  "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.7}
MODELS["ministral3"] = ("bf16", 1, "mistral", ({"rope_parameters": {**MINISTRAL_ROPE, "llama_4_scaling_beta": 0.0}}, {"rope_parameters": {**MINISTRAL_ROPE, "factor": 1.5}}), {
    "architectures": ["Ministral3ForCausalLM"], "model_type": "ministral3", "hidden_size": 64, "intermediate_size": 100, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 24, "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "sliding_window": None, "tie_word_embeddings": True, "rope_parameters": MINISTRAL_ROPE})
MODELS["olmo3"] = ("bf16", 1, "qwen2", ({"sliding_window": 256}, {"rope_parameters": None}), {
    "architectures": ["Olmo3ForCausalLM"], "model_type": "olmo3", "hidden_size": 72, "intermediate_size": 100, "num_attention_heads": 6, "num_key_value_heads": 2, "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"], "sliding_window": 8, "max_position_embeddings": 256, "rms_norm_eps": 1e-6,
    "attention_bias": False, "tie_word_embeddings": False, "rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}, "full_attention": {
        "rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 16, "beta_fast": 32.0, "beta_slow": 1.0, "attention_factor": 1.2079441541679836}}})
VISION = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 1, "out_hidden_size": 64}
MODELS["qwen2vl"] = ("bf16", 1, "qwen2", "bias", {
    "architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl", "hidden_size": 64, "intermediate_size": 100, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}, "use_sliding_window": False,
    "sliding_window": 16, "max_window_layers": 3, "tie_word_embeddings": False, "image_token_id": 9, "video_token_id": 10, "vision_start_token_id": 7, "vision_end_token_id": 8,
    "vision_config": {**VISION, "model_type": "qwen2_5_vl", "window_size": 16, "fullatt_block_indexes": [0]}})
MODELS["qwen3vl"] = ("bf16", 1, "qwen2", "qk_norm", {
    "architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl", "tie_word_embeddings": True, "image_token_id": 9, "video_token_id": 10, "vision_start_token_id": 7,
    "vision_end_token_id": 8, "text_config": {"model_type": "qwen3_vl_text", "hidden_size": 64, "intermediate_size": 100, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 24,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "rope_scaling": {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [4, 4, 4]},
        "attention_bias": False, "vocab_size": 512, "num_hidden_layers": 3, "hidden_act": "silu"},
    "vision_config": {**VISION, "model_type": "qwen3_vl", "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}})
DEEPSEEK = {"hidden_size": 64, "intermediate_size": 100, "moe_intermediate_size": 28, "num_attention_heads": 4, "num_key_value_heads": 4, "kv_lora_rank": 36,
            "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 14, "first_k_dense_replace": 1, "moe_layer_freq": 1, "hidden_act": "silu",
            "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "attention_bias": False, "tie_word_embeddings": False}
DEEPSEEK_YARN = {"type": "yarn", "factor": 8, "beta_fast": 32, "beta_slow": 1, "original_max_position_embeddings": 32}
MODELS |= {
    "deepseek2_lite": ("bf16", 1, "llama3", {"rope_scaling": None}, {
        **DEEPSEEK, "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2", "q_lora_rank": None, "n_routed_experts": 6, "n_shared_experts": 2,
        "num_experts_per_tok": 2, "topk_method": "greedy", "n_group": 1, "topk_group": 1, "scoring_func": "softmax", "norm_topk_prob": False,
        "routed_scaling_factor": 1.0, "rope_scaling": {**DEEPSEEK_YARN, "mscale": 0.707, "mscale_all_dim": 0.707}}),
    "deepseek2": ("bf16", 1, "llama3", {"routed_scaling_factor": 1.0}, {
        **DEEPSEEK, "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2", "q_lora_rank": 28, "n_routed_experts": 8, "n_shared_experts": 1,
        "num_experts_per_tok": 3, "topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2, "scoring_func": "softmax", "norm_topk_prob": False,
        "routed_scaling_factor": 4.0, "rope_scaling": None}),
    "deepseek3": ("bf16", 2, "llama3", "choice_bias", {
        **DEEPSEEK, "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "q_lora_rank": 28, "n_routed_experts": 12, "n_shared_experts": 1,
        "num_experts_per_tok": 4, "topk_method": "noaux_tc", "n_group": 4, "topk_group": 2, "scoring_func": "sigmoid", "norm_topk_prob": True,
        "routed_scaling_factor": 2.5, "num_nextn_predict_layers": 1, "rope_scaling": {**DEEPSEEK_YARN, "mscale": 1.0, "mscale_all_dim": 1.0}}),
}
LESS_ONE = ("gemma3_vision", "gemma", "gemma2", "gemma3")    # their norms hold gain - 1
BITNET = MODELS["bitnet"][4]
QUANTIZED = {"quant_method": "bitnet", "linear_class": "autobitlinear"}
MODELS["bitnet_packed"] = ("bf16", 1, "llama3", "sub_norm", {**BITNET, "quantization_config": {**QUANTIZED, "quantization_mode": "offline"}})
MODELS["bitnet_online"] = ("bf16", 1, "llama3", "sub_norm", {
    **BITNET, "num_key_value_heads": 3, "hidden_act": "silu", "quantization_config": {**QUANTIZED, "quantization_mode": "online"}})
GPT_OSS = {"architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "num_hidden_layers": 4, "num_local_experts": 5, "num_experts_per_tok": 2,
           "experts_per_token": 2, "num_attention_heads": 6, "num_key_value_heads": 2, "sliding_window": 8, "attention_bias": True, "swiglu_limit": 7.0,
           "layer_types": ["sliding_attention", "full_attention"] * 2, "initial_context_length": 64, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
           "rope_theta": 150000, "router_aux_loss_coef": 0.9, "output_router_logits": False, "tie_word_embeddings": False}
YARN = {"rope_type": "yarn", "factor": 4.0, "beta_fast": 8.0, "beta_slow": 1.0, "original_max_position_embeddings": 64}
MODELS["gpt_oss"] = ("bf16", 1, "llama3", ("sinks", "bias", "expert_bias", {"swiglu_limit": 100.0}, {"sliding_window": 256}, {"rope_scaling": {**YARN, "truncate": True}}), {
    **GPT_OSS, "hidden_size": 72, "intermediate_size": 44, "head_dim": 16, "swiglu_limit": 1.5, "rope_scaling": {**YARN, "truncate": False}})
MODELS["gpt_oss_mxfp4"] = ("bf16", 1, "llama3", None, {
    **GPT_OSS, "hidden_size": 96, "intermediate_size": 64, "head_dim": 24, "rope_theta": 3, "rope_scaling": {**YARN, "beta_fast": 32.0},    # bounds that rounding leaves alone
    "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}})
# Which of them keep a layer's experts fused in two tensors, as transformers holds them; the others have one tensor for each matrix of each.
FUSED = ("olmoe", "gpt_oss", "gpt_oss_mxfp4")
PARTS = {"mixtral": ("block_sparse_moe", "w1", "w3", "w2")}
ROUTER_MARGIN = 2e-3    # the least lead of the last picked expert's logit over the first that is not; of DeepSeek-V3's probabilities and of sums of two a quarter


def draw_weights(model, seed, dtype, less_one=False, scaled=False):
    """Random weights, rounded to the stored dtype and held in float32. Returns {name: stored tensor}, ties left out."""
    rng = torch.Generator().manual_seed(seed)
    normal = lambda shape, std: torch.randn(shape, generator=rng) * std
    tied = getattr(model.config.get_text_config(), "tie_word_embeddings", model.config.tie_word_embeddings)
    stored = {}
    for name, p in model.named_parameters():
        if name.endswith(("A_log", "dt_bias")):    # states that fade within some tokens, each head its own way
            w = normal(p.shape, 1.0) - 1
        elif name.endswith(".D"):
            w = normal(p.shape, 0.5) + 1
        elif "conv1d.weight" in name:    # (channels, 1, kernel)
            w = normal(p.shape, 1.5 / p.shape[2] ** 0.5)
        elif name.endswith("bias"):
            w = normal(p.shape, 0.7 if re.search("[qkv]_proj|c_attn|query_key", name) else 0.3)
        elif "norm" in name or "ln_" in name:
            w = normal(p.shape, 0.3) + (0 if less_one else 1)
        elif "wpe" in name:
            w = normal(p.shape, 0.4)
        elif "embed_tokens" in name or "embeddings" in name or "wte" in name or "embed_in" in name:
            w = normal(p.shape, 0.12 if scaled and "wte" not in name else 0.25 if tied else 1.0)
        elif "sinks" in name:
            w = normal(p.shape, 1.5)
        elif "mlp.gate." in name or ".router." in name:  # strong enough that the shares differ
            w = normal(p.shape, 2.0 / p.shape[1] ** 0.5)
        elif "shared_expert_gate" in name:
            w = normal(p.shape, 2.0 / p.shape[1] ** 0.5)
        elif "experts" in name:    # (experts, out, in); of gpt-oss (experts, in, out)
            w = normal(p.shape, 1.5 / p.shape[1 if model.config.model_type == "gpt_oss" else -1] ** 0.5)
        else:      # with a tied head the blocks must outweigh the embedding, or every token predicts itself
            gain = (3.0 if "c_attn" in name else 2.0 if "query_key" in name else 1.8 if "q_proj" in name or "k_proj" in name else 2.5 if "lm_head" in name or "embed_out" in name
                    else (4.0 if scaled else 1.5) if tied and re.search("o_proj|down_proj|c_proj|out_proj|output_linear", name) else 1.0)
            w = normal(p.shape, gain / p.shape[0 if ".c_" in name and "gpt2" in model.config.model_type else 1] ** 0.5)
        stored[name] = w.to(dtype)
        p.data.copy_(stored[name].float())
    for name, b in model.named_buffers():
        if name.endswith("e_score_correction_bias"):    # f32 in every checkpoint
            stored[name] = normal(b.shape, 0.2)
            b.copy_(stored[name])
    return stored


def bit_linears(model):
    """The matrices that BitNet makes ternary, with their names."""
    return {name: m for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and name != "lm_head"}


def make_ternary(model, stored, mode):
    """The model gets what transformers' AutoBitLinear multiplies, activations apart; returns what a checkpoint of that mode stores."""
    out = dict(stored)
    for name, m in bit_linears(model).items():
        key = f"{name}.weight"
        w = stored[key].float()
        inverse = 1.0 / w.abs().mean().clamp_(min=1e-5)
        q = (w * inverse).round().clamp(-1, 1)
        d = (1 / inverse).to(stored[key].dtype)
        assert torch.equal(q * d.float(), (q / inverse).to(stored[key].dtype).float())    # WeightQuant
        m.weight.data.copy_(q * d.float())
        if mode == "offline":
            out[key], out[f"{key}_scale"] = pack_weights(q.clone()), d.reshape(1)
    return out


def make_mxfp4(model, stored):
    """Experts' matrices rounded to MXFP4: 32 numbers of +-{0, 0.5, 1, 1.5, 2, 3, 4, 6}, two in a byte, share a power of two. The model gets what
    transformers reads of that; returns what a checkpoint stores."""
    values, out = torch.tensor(FP4_VALUES), {}
    for name, t in stored.items():
        if not re.search("experts.(gate_up|down)_proj$", name):
            out[name] = t
            continue
        w = t.float().transpose(1, 2).reshape(t.shape[0], t.shape[2], -1, 32)    # (experts, rows, blocks, 32)
        e = w.abs().amax(dim=-1).clamp_min(2.0 ** -120).log2().floor() - 2
        codes = (torch.ldexp(w, -e[..., None].int())[..., None] - values).abs().argmin(dim=-1).to(torch.uint8)
        out[f"{name}_blocks"], out[f"{name}_scales"] = codes[..., 0::2] | codes[..., 1::2] << 4, (e + 127).to(torch.uint8)
        wide = convert_moe_packed_tensors(out[f"{name}_blocks"], out[f"{name}_scales"], dtype=torch.float32)
        model.get_parameter(name).data.copy_(wide)
    return out


def rounding_changes(model, tokens, ref):
    """How far activations in 8 bits, one scale a token, as AutoBitLinear has them, move the logits."""
    def quantize(_, args):
        scale = 127 / args[0].abs().max(dim=-1, keepdim=True).values.clamp_(min=1e-5)
        return (args[0] * scale).round().clamp(-128, 127) / scale
    hooks = [m.register_forward_pre_hook(quantize) for m in bit_linears(model).values()]
    moved = ((logits_of(model, tokens) - ref).norm(dim=1) / ref.norm(dim=1)).max().item()
    for h in hooks:
        h.remove()
    print(f"    activations in 8 bits a token move the logits by {moved:.3g} at the worst position")


def logits_of(model, tokens):
    with torch.no_grad():
        return model(torch.tensor([tokens]), use_cache=False).logits[0].float()


def greedy(model, prompt):
    """Greedy continuation without a cache, and the smallest lead of a best logit over the next."""
    tokens, lead = list(prompt), float("inf")
    for _ in range(N_GREEDY):
        best = logits_of(model, tokens)[-1].topk(2)
        lead = min(lead, (best.values[0] - best.values[1]).item())
        tokens.append(best.indices[0].item())
    return tokens[len(prompt):], lead


def grouped(router, logits):
    """What DeepSeek's router chooses by, -inf outside of the groups that it takes, and the least lead of the last group over the next."""
    scores = logits.sigmoid() + router.e_score_correction_bias if hasattr(router, "e_score_correction_bias") else logits
    if router.topk_group is None or router.topk_group == router.num_group:
        return scores, float("inf")
    each = scores.view(len(scores), router.num_group, -1)
    of_group = each.topk(2, dim=-1).values.sum(dim=-1) if hasattr(router, "e_score_correction_bias") else each.max(dim=-1).values
    best = of_group.topk(router.topk_group + 1, dim=-1)
    taken = torch.zeros_like(of_group).scatter_(1, best.indices[:, :-1], 1)
    return each.masked_fill(~taken.bool().unsqueeze(-1), float("-inf")).flatten(1), (best.values[:, -2] - best.values[:, -1]).min().item()


class Routing:
    """While it is open, what the routers of a forward pass choose by, layer by layer: (n_tokens, n_experts) each, their logits or what `grouped` says."""

    def __init__(self, model):
        self.logits, self.lead, self.hooks = [], float("inf"), [m.register_forward_hook(self.take) for name, m in model.named_modules() if name.endswith(("mlp.gate", ".router"))]

    def take(self, router, _, out):
        logits = out[0].float()
        if hasattr(router, "topk_group"):
            logits, lead = grouped(router, logits)
            self.lead = min(self.lead, lead)
            assert torch.equal(logits.topk(router.top_k).indices.sort(dim=-1).values, out[2].sort(dim=-1).values)
        self.logits.append(logits)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for h in self.hooks:
            h.remove()

    def picks(self, k):
        """(n_layers, n_tokens, k) expert numbers, rising, and the least lead of the last picked over the next."""
        best = [l.topk(k + 1, dim=-1) for l in self.logits]
        lead = min(self.lead, *((b.values[:, k - 1] - b.values[:, k]).min().item() for b in best))
        return np.stack([b.indices[:, :k].sort(dim=-1).values.numpy() for b in best]), lead


def published(name, stored):
    """Tensor names as checkpoints of the family have them: transformers' own, but for experts, which are split, and models with pictures."""
    if name == "qwen2vl":    # as published
        return {k.replace("model.visual.", "visual.").replace("model.language_model.", "model."): v for k, v in stored.items()}
    if name in ("gemma3_vision", "mistral3"):
        return {re.sub("^(lm_head)", r"language_model.\1", re.sub("^model.(vision_tower|multi_modal_projector)", r"\1", k.replace("model.language_model.", "language_model.model."))): v
                for k, v in stored.items()}
    if name == "gpt2":
        return {k.removeprefix("transformer."): v for k, v in stored.items()}
    if name.startswith("granite"):
        new_to_old = {"experts.gate_up_proj": "input_linear.weight", "experts.down_proj": "output_linear.weight", "router.weight": "router.layer.weight"}
        return {re.sub("|".join(new_to_old), lambda m: new_to_old[m[0]], k): v for k, v in stored.items()}
    if name in FUSED:
        return stored
    module, *parts = PARTS.get(name, ("mlp", "gate_proj", "up_proj", "down_proj"))
    out = {}
    if name == "deepseek3":    # its layer that predicts a further token, which decides nothing
        out |= {f"model.layers.3.{k}.weight": stored["model.norm.weight"].clone() for k in ("enorm", "hnorm", "shared_head.norm", "input_layernorm")}
        out["model.layers.3.self_attn.o_proj.weight"] = stored["model.layers.0.self_attn.o_proj.weight"].clone()
    for key, t in stored.items():
        if ".experts." not in key:
            out[key.replace(".mlp.gate.", f".{module}.gate.")] = t
            continue
        layer, _, kind = key.partition(".mlp.experts.")
        for e in range(t.shape[0]):
            halves = t[e].chunk(2) if kind == "gate_up_proj" else [t[e]]
            for part, half in zip(parts[:2] if kind == "gate_up_proj" else parts[2:], halves):
                out[f"{layer}.{module}.experts.{e}.{part}.weight"] = half.clone()
    return out


def check(model, config, feature, tokens, ref):
    """The logits must depend on the feature that this golden is there for."""
    if feature is None:
        return
    if isinstance(feature, tuple):
        for one in feature:
            check(model, config, one, tokens, ref)
        return
    config = copy.deepcopy(config)
    other_weights = dict(model.state_dict())
    if feature == "sliding_window":
        config["sliding_window"] = None
    elif feature == "rope_scaling":
        config["rope_scaling"] = None
    elif isinstance(feature, dict):
        config.update(feature)
    elif feature == "norm_topk_prob":
        config["norm_topk_prob"] = not config["norm_topk_prob"]
    else:
        part = {"bias": ".bias", "qk_norm": "q_norm.weight", "router": ("mlp.gate.weight", ".router.weight"), "shared_mlp": "shared_mlp.output_linear.weight", "sub_norm": "sub_norm.weight", "post_norm": "feedforward_layernorm.weight", "ssm_norm": "mamba.norm.weight", "positions": "wpe.weight",
                "shared_gate": "shared_expert_gate.weight", "sinks": "sinks", "expert_bias": "proj_bias", "choice_bias": "e_score_correction_bias"}[feature]
        other_weights = {k: (torch.ones_like(v) if feature.endswith("_norm") else torch.zeros_like(v)) if k.endswith(part) else v
                         for k, v in other_weights.items()}
    other = build(config)
    other.load_state_dict(other_weights)
    change = ((logits_of(other, tokens) - ref).norm(dim=1) / ref.norm(dim=1)).max().item()
    print(f"    without {feature}: logits change by {change:.3g} at the worst position")
    assert change > 0.01


def auto_of(config):
    return AutoModelForImageTextToText if config["model_type"] in ("mistral3", "qwen2_5_vl", "qwen3_vl") else AutoModelForCausalLM


def build(config):
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "config.json").write_text(json.dumps(config))
        parsed = AutoConfig.from_pretrained(folder)
    return auto_of(config).from_config(parsed, attn_implementation="eager", dtype=torch.float32).eval()


def write_weights(folder, stored, n_shards):
    """One file, or several of about equal bytes with an index, named as published checkpoints are."""
    names = list(stored)
    total = sum(t.nbytes for t in stored.values())
    if n_shards == 1:
        save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
        return
    shards, done = [[] for _ in range(n_shards)], 0
    for name in names:
        shards[min(done * n_shards // total, n_shards - 1)].append(name)
        done += stored[name].nbytes
    where = {}
    for i, part in enumerate(shards):
        file = f"model-{i + 1:05d}-of-{n_shards:05d}.safetensors"
        save_file({n: stored[n] for n in part}, folder / file, metadata={"format": "pt"})
        where.update({n: file for n in part})
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def make(name):
    dtype, n_shards, family, feature, config = MODELS[name]
    config = {**config, **{k: v for k, v in COMMON.items() if k not in config}, ("dtype" if "rope_parameters" in config else "torch_dtype"): LONG[dtype]}
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with open(folder / "tokenizer.json", "w", encoding="utf-8", newline="\n") as f:
        lines = [line for line in tf.read_lines(OUT / "tokenizers" / "lines.txt")[:3900] if not any(c in line for c, _ in tf.SPECIALS)]
        f.write(tf.dump(tf.FAMILIES[family](lines, config["vocab_size"])))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == config["vocab_size"]
    for key, choices in BOUNDS.items():
        config[key] = next(i for i in map(tokenizer.token_to_id, choices) if i is not None)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")

    quantized = config.get("quantization_config")
    model = build({k: v for k, v in config.items() if k != "quantization_config"})
    for seed in range(1, 200):
        stored = draw_weights(model, seed, WEIGHTS[dtype], name in LESS_ONE, name in SCALED)
        if quantized:
            stored = make_mxfp4(model, stored) if quantized["quant_method"] == "mxfp4" else make_ternary(model, stored, quantized["quantization_mode"])
        tokens = torch.randint(3, config["vocab_size"], (N_TOKENS,), generator=torch.Generator().manual_seed(seed)).tolist()
        with Routing(model) as routing:
            logits_of(model, tokens)
        if routing.logits and routing.picks(config["num_experts_per_tok"])[1] < (ROUTER_MARGIN / 4 if name == "deepseek3" else ROUTER_MARGIN):
            continue
        continuation, lead = greedy(model, tokens[:N_PROMPT])
        if lead >= MARGIN and len(set(continuation)) > DISTINCT.get(name, 12):
            break
    else:
        sys.exit(f"{name}: no seed has a clear enough greedy choice")
    write_weights(folder, published(name, stored), n_shards)
    for path in folder.iterdir():
        path.chmod(0o644)

    # What counts is what a reader of the folder sees: load it back. (Of quantized ones transformers would round the activations too.)
    loaded = model if quantized else auto_of(config).from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    with Routing(loaded) as routing:
        ref = logits_of(loaded, tokens)
    assert torch.equal(ref, logits_of(model, tokens))
    with open(folder / "logits.bin", "wb") as f:
        f.write(b"SNGL" + struct.pack("<III", 1, len(tokens), config["vocab_size"]))
        f.write(np.array(tokens, "<i4").tobytes() + ref.numpy().astype("<f4").tobytes())
        f.write(struct.pack("<I", len(continuation)) + np.array(continuation, "<i4").tobytes())
        if routing.logits:
            picks, lead_of_picks = routing.picks(config["num_experts_per_tok"])
            f.write(struct.pack("<II", picks.shape[0], picks.shape[2]) + picks.astype("<i4").tobytes())
            print(f"    experts: {len(np.unique(picks))} of {routing.logits[0].shape[1]} picked, least lead {lead_of_picks:.2g}")
    size = sum(p.stat().st_size for p in folder.iterdir())
    print(f"{name}: seed {seed}, logits std {ref.std():.2f}, greedy lead {lead:.3f}, {len(set(continuation))} distinct, {size} bytes")
    check(model, {k: v for k, v in config.items() if k != "quantization_config"}, feature, tokens, ref)
    if quantized and quantized["quant_method"] == "bitnet":
        rounding_changes(model, tokens, ref)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for wanted in sys.argv[1:] or MODELS:
        make(wanted)
