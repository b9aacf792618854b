"""Every method on the digits."""
BASE = {
    "dataset": "digits", "num_tasks": 5, "split_strategy": "class", "backbone": "tiny", "width": 16,
    "batch_size": 64, "max_epochs": 20, "warmup_epochs": 2, "optimizer": "adamw", "lr": 0.004, "weight_decay": 0.01,
    "min_scale": 0.5, "gaussian_prob": 0.0, "horizontal_flip_prob": 0.0, "checkpoint_frequency": 10,
    "disable_online_eval": True, "disable_linear_eval": True, "num_threads": 1, "proj_hidden_dim": 256,
}  # fmt: skip
DIGITS = {
    "simclr": {"output_dim": 64, "temperature": 0.2},
    "supcon": {"output_dim": 64, "temperature": 0.2},
    "mocov2plus": {"output_dim": 64, "temperature": 0.2, "queue_size": 128, "base_tau_momentum": 0.9},
    "mocov3": {"output_dim": 64, "pred_hidden_dim": 256, "temperature": 0.2, "base_tau_momentum": 0.9},
    "byol": {"output_dim": 64, "pred_hidden_dim": 256, "base_tau_momentum": 0.9},
    "simsiam": {"output_dim": 64, "pred_hidden_dim": 64},
    "barlow_twins": {"output_dim": 256, "scale_loss": 0.1},
    "vicreg": {"output_dim": 256},
    "swav": {"output_dim": 64, "num_prototypes": 30, "queue_size": 128, "epoch_queue_starts": 5},
    "deepclusterv2": {"output_dim": 64, "num_prototypes": [30, 30, 30]},
    "dino": {"output_dim": 64, "num_prototypes": 64, "warmup_teacher_temperature_epochs": 5, "base_tau_momentum": 0.9},
    "nnclr": {"output_dim": 64, "pred_hidden_dim": 256, "temperature": 0.2, "queue_size": 256},
    "ressl": {"output_dim": 64, "queue_size": 128, "base_tau_momentum": 0.9},
    "wmse": {"output_dim": 16, "whitening_size": 64},
    "emp_ssl": {"output_dim": 64, "num_crops": 6, "max_scale": 0.5, "min_scale": 0.25},
    "mae": {"backbone": "vit_tiny", "depth": 2, "patch_size": 2, "decoder_depth": 1},
    "lejepa": {"output_dim": 64, "num_slices": 256},
}
def settings_of(name):
    s = {**BASE, **DIGITS[name]}
    if name == "mae":
        s.pop("width"); s.pop("proj_hidden_dim")
    return s
