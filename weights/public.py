"""Public weights that are known by name: where they lie, pinned, what they weigh and under which licence."""

from collections.abc import Mapping
from dataclasses import dataclass

NETWORK, SETTINGS = "diffusion_pytorch_model.safetensors", "config.json"
STABLE_DIFFUSION = (
    "model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json", "text_encoder/model.safetensors",
    "tokenizer/merges.txt", "tokenizer/special_tokens_map.json", "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json", f"unet/{SETTINGS}", f"unet/{NETWORK}", f"vae/{SETTINGS}", f"vae/{NETWORK}",
)  # fmt: skip
HALF_CONTROLNET = (SETTINGS, "diffusion_pytorch_model.fp16.safetensors")
ANNOTATORS, ANNOTATORS_AT = "lllyasviel/Annotators", "982e7edaec38759d914a963c48c4726685de7d96"
RAIL = "CreativeML Open RAIL-M"


@dataclass(frozen=True)
class Public:
    """Public weights: a repository of the hub at a commit, and the files of it that are used.

    The commits were read in public sources; none of these repositories could be reached where this was written.
    """

    repository: str
    revision: str
    files: tuple[str, ...]
    megabytes: int
    """About."""
    licence: str
    serves: str
    """What it is named for."""
    main: str = ""
    """The file that an option names, where it is no folder."""


PUBLIC: Mapping[str, Public] = {
    "sd15": Public(
        "stable-diffusion-v1-5/stable-diffusion-v1-5", "451f4fe16113bff5a5d2269ed5ad43b0592e9a14", STABLE_DIFFUSION,
        4270, RAIL, "--prior: Stable Diffusion 1.5",
    ),
    "x4-upscaler": Public(
        "stabilityai/stable-diffusion-x4-upscaler", "572c99286543a273bfd17fac263db5a77be12c4c",
        (*STABLE_DIFFUSION, "low_res_scheduler/scheduler_config.json"),
        3480, "CreativeML Open RAIL++-M", "--prior: enlarges four times",
    ),
    "controlnet-canny": Public(
        "lllyasviel/control_v11p_sd15_canny", "115a470d547982438f70198e353a921996e2e819", HALF_CONTROLNET,
        723, RAIL, "--controlnet: canny",
    ),
    "controlnet-softedge": Public(
        "lllyasviel/control_v11p_sd15_softedge", "b5bcad0c48e9b12f091968cf5eadbb89402d6bc9", HALF_CONTROLNET,
        723, RAIL, "--controlnet: softedge",
    ),
    "controlnet-depth": Public(
        "lllyasviel/control_v11f1p_sd15_depth", "539f99181d33db39cf1af2e517cd8056785f0a87", HALF_CONTROLNET,
        723, RAIL, "--controlnet: maps of depth",
    ),
    "controlnet-normal": Public(
        "lllyasviel/control_v11p_sd15_normalbae", "cb7296e6587a219068e9d65864e38729cd862aa8", HALF_CONTROLNET,
        723, RAIL, "--controlnet: maps of normals",
    ),
    "controlnet-pose": Public(
        "lllyasviel/control_v11p_sd15_openpose", "9ae9f970358db89e211b87c915f9535c6686d5ba", HALF_CONTROLNET,
        723, RAIL, "--controlnet: maps of poses",
    ),
    "controlnet-shuffle": Public(
        "lllyasviel/control_v11e_sd15_shuffle", "8cf275970f984acf5cc0fdfa537db8be098936a3", HALF_CONTROLNET,
        723, RAIL, "--controlnet: shuffle",
    ),
    "animatediff": Public(
        "guoyww/animatediff-motion-adapter-v1-5-2", "6167b88ffe39b4441fdf2113e77b99a6f56b7906", (SETTINGS, NETWORK),
        1820, "Apache-2.0 (see its card)", "--motion-adapter: AnimateDiff",
    ),
    "animatelcm": Public(
        "wangfuyun/AnimateLCM", "6cdc714205bbc04c3b2031ee63725cd6e54dbe56", (SETTINGS, NETWORK),
        1820, "see its card", "--motion-adapter: AnimateLCM, with --lora and --sampler lcm",
    ),
    "animatelcm-lora": Public(
        "wangfuyun/AnimateLCM", "6cdc714205bbc04c3b2031ee63725cd6e54dbe56", ("AnimateLCM_sd15_t2v_lora.safetensors",),
        118, "see its card", "--lora: AnimateLCM", "AnimateLCM_sd15_t2v_lora.safetensors",
    ),
    **{
        f"detector-{name}": Public(ANNOTATORS, ANNOTATORS_AT, files, size, "see its card", f"--control: {control}")
        for name, files, size, control in (
            ("hed", ("ControlNetHED.pth",), 29, "softedge-hed"),
            ("lineart", ("sk_model.pth", "sk_model2.pth"), 34, "lineart-drawn"),
            ("lineart-anime", ("netG.pth",), 218, "lineart-anime"),
            ("mlsd", ("mlsd_large_512_fp32.pth",), 6, "mlsd"),
            ("normal", ("scannet.pt",), 291, "normal"),
            ("pose", ("body_pose_model.pth", "hand_pose_model.pth", "facenet.pth"), 511, "pose"),
        )
    },
}  # fmt: skip
"""By the names that options take, and what ``vrestore weights pull`` fetches."""
