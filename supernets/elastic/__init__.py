"""Elastic layers: weights of the largest shape, computed with by slice."""

from supernets.elastic.batchnorm import ElasticBatchNorm2d, Statistics
from supernets.elastic.channels import expanded_channels, make_divisible, squeezed_channels
from supernets.elastic.conv import ElasticConv2d
from supernets.elastic.depthwise import ElasticDepthwiseConv2d
from supernets.elastic.embedding import ElasticEmbedding
from supernets.elastic.inverted_residual import ElasticInvertedResidual
from supernets.elastic.layernorm import ElasticLayerNorm
from supernets.elastic.linear import ElasticLinear
from supernets.elastic.mixable import MixableModule, TensorSource
from supernets.elastic.module import ElasticModule
from supernets.elastic.pointwise import ElasticPointwiseConv2d
from supernets.elastic.squeeze_excite import ElasticSqueezeExcite
from supernets.elastic.stage import ElasticStage

__all__ = [
    "ElasticBatchNorm2d",
    "ElasticConv2d",
    "ElasticDepthwiseConv2d",
    "ElasticEmbedding",
    "ElasticInvertedResidual",
    "ElasticLayerNorm",
    "ElasticLinear",
    "ElasticModule",
    "ElasticPointwiseConv2d",
    "ElasticSqueezeExcite",
    "ElasticStage",
    "MixableModule",
    "Statistics",
    "TensorSource",
    "expanded_channels",
    "make_divisible",
    "squeezed_channels",
]
