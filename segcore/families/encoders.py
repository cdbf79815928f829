"""Encoders to choose from, with their size. Torch-free, for the form.

Those of segmentation-models-pytorch 0.6, then (`tu-`) often used ones of timm that were tried with it; any
other model of timm can be named as well. Counted with 3 channels, without the classifier.
"""

from __future__ import annotations

# fmt: off
ENCODERS: dict[str, float] = {
    "resnet18": 11.2, "resnet34": 21.3, "resnet50": 23.5, "resnet101": 42.5, "resnet152": 58.1,
    "resnext50_32x4d": 23.0, "resnext101_32x4d": 42.1, "resnext101_32x8d": 86.7, "resnext101_32x16d": 192.0,
    "resnext101_32x32d": 466.5, "resnext101_32x48d": 826.4, "dpn68": 11.8, "dpn68b": 11.8, "dpn92": 35.0,
    "dpn98": 58.9, "dpn107": 84.2, "dpn131": 76.6, "vgg11": 9.2, "vgg11_bn": 9.2, "vgg13": 9.4,
    "vgg13_bn": 9.4, "vgg16": 14.7, "vgg16_bn": 14.7, "vgg19": 20.0, "vgg19_bn": 20.0, "senet154": 113.0,
    "se_resnet50": 26.0, "se_resnet101": 47.3, "se_resnet152": 64.8, "se_resnext50_32x4d": 25.5,
    "se_resnext101_32x4d": 46.9, "densenet121": 7.0, "densenet169": 12.5, "densenet201": 18.1,
    "densenet161": 26.5, "inceptionresnetv2": 54.3, "inceptionv4": 41.1, "efficientnet-b0": 4.0,
    "efficientnet-b1": 6.5, "efficientnet-b2": 7.7, "efficientnet-b3": 10.7, "efficientnet-b4": 17.5,
    "efficientnet-b5": 28.3, "efficientnet-b6": 40.7, "efficientnet-b7": 63.8, "mobilenet_v2": 2.2,
    "xception": 20.8, "mit_b0": 3.3, "mit_b1": 13.2, "mit_b2": 24.2, "mit_b3": 44.1, "mit_b4": 60.8,
    "mit_b5": 81.4, "mobileone_s0": 4.3, "mobileone_s1": 3.5, "mobileone_s2": 5.8, "mobileone_s3": 8.1,
    "mobileone_s4": 12.9, "tu-resnet18d": 11.2, "tu-resnet26d": 14.0, "tu-resnet34d": 21.3,
    "tu-resnet50d": 23.5, "tu-resnet101d": 42.5, "tu-resnetrs50": 33.6, "tu-resnetv2_50": 23.5,
    "tu-seresnet50": 26.0, "tu-seresnext50_32x4d": 25.5, "tu-convnext_atto": 3.4, "tu-convnext_femto": 4.8,
    "tu-convnext_pico": 8.5, "tu-convnext_nano": 15.0, "tu-convnext_tiny": 27.8, "tu-convnext_small": 49.5,
    "tu-convnext_base": 87.6, "tu-convnext_large": 196.2, "tu-convnextv2_atto": 3.4,
    "tu-convnextv2_femto": 4.8, "tu-convnextv2_pico": 8.6, "tu-convnextv2_nano": 15.0,
    "tu-convnextv2_tiny": 27.9, "tu-convnextv2_base": 87.7, "tu-mobilenetv3_small_100": 0.9,
    "tu-mobilenetv3_large_100": 3.0, "tu-mobilenetv4_conv_small": 1.3, "tu-mobilenetv4_conv_medium": 7.2,
    "tu-mobilenetv4_conv_large": 30.1, "tu-mobilenetv4_hybrid_medium": 8.6, "tu-mobilevitv2_100": 4.4,
    "tu-efficientnetv2_rw_s": 21.7, "tu-tf_efficientnetv2_b0": 5.6, "tu-tf_efficientnetv2_b3": 12.5,
    "tu-tf_efficientnetv2_s": 19.8, "tu-tf_efficientnetv2_m": 52.2, "tu-tf_efficientnet_lite0": 3.0,
    "tu-efficientnet_b0": 3.6, "tu-efficientnet_b3": 10.1, "tu-efficientnet_b5": 27.3,
    "tu-regnety_002": 2.8, "tu-regnety_004": 3.9, "tu-regnety_008": 5.5, "tu-regnety_016": 10.3,
    "tu-regnety_032": 17.9, "tu-regnety_080": 37.2, "tu-regnetx_032": 14.3, "tu-res2net50_26w_4s": 23.7,
    "tu-res2next50": 22.6, "tu-resnest14d": 8.6, "tu-resnest26d": 15.0, "tu-resnest50d": 25.4,
    "tu-densenet121": 7.0, "tu-hrnet_w18": 10.9, "tu-hrnet_w32": 30.9, "tu-dla34": 15.2, "tu-dla60": 21.0,
    "tu-ghostnet_100": 0.9, "tu-fbnetc_100": 2.9, "tu-lcnet_100": 1.0, "tu-mnasnet_100": 2.7,
    "tu-swin_tiny_patch4_window7_224": 27.5, "tu-swin_small_patch4_window7_224": 48.8,
    "tu-swin_base_patch4_window7_224": 86.7, "tu-swinv2_tiny_window8_256": 27.6, "tu-pvt_v2_b0": 3.4,
    "tu-pvt_v2_b1": 13.5, "tu-pvt_v2_b2": 24.8, "tu-pvt_v2_b3": 44.7, "tu-edgenext_small": 5.3,
    "tu-focalnet_tiny_srf": 27.7, "tu-poolformerv2_s12": 11.4, "tu-caformer_s18": 23.2,
    "tu-convformer_s18": 23.7, "tu-efficientvit_b1": 4.6, "tu-repvit_m1": 4.7, "tu-fastvit_t8": 3.2,
    "tu-inception_next_tiny": 24.0, "tu-tiny_vit_5m_224": 5.1, "tu-davit_tiny": 27.6,
    "tu-mvitv2_tiny": 23.4, "tu-nextvit_small": 30.7, "tu-rdnet_tiny": 22.8, "tu-hgnetv2_b0": 1.9,
    "tu-hgnetv2_b4": 13.6, "tu-starnet_s1": 2.7, "tu-vgg16_bn": 14.7, "tu-gernet_s": 6.3,
    "tu-cspresnet50": 20.6, "tu-cspdarknet53": 26.6, "tu-darknet53": 40.6, "tu-selecsls42": 18.3,
}
"""Parameters in millions, by name."""
# fmt: on
USUAL = 21.3
"""Parameters in millions of the encoder with which families are described, resnet34."""


def encoder_millions(name: str) -> float:
    """Return the parameters of an encoder in millions; of one that is not in the list the usual ones."""
    names = (name, f"tu-{name}", name.removeprefix("tu-"))
    return next((ENCODERS[known] for known in names if known in ENCODERS), USUAL)
