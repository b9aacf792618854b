"""Upstream's scripts, rebuilt from the tables of their flags: CaSSLe's 75 and Kaizen's four."""

LARS = "--optimizer sgd --lars --grad_clip_lars --eta_lars 0.02 --exclude_bias_n_norm --scheduler warmup_cosine"
SGD = "--optimizer sgd --scheduler cosine"
WANDB = "--project ever-learn --entity unitn-mhug --wandb"
JITTER = "--brightness 0.4 --contrast 0.4 --saturation 0.2 --hue 0.1"
STRONG = "--brightness 0.8 --contrast 0.8 --saturation 0.8 --hue 0.2"
MOCO_JITTER = "--brightness 0.4 --contrast 0.4 --saturation 0.4 --hue 0.1"
VICREG = "--proj_hidden_dim 2048 --output_dim 2048 --sim_loss_weight 25.0 --var_loss_weight 25.0 --cov_loss_weight 1.0"
SWAV = "--proj_hidden_dim 2048 --queue_size 3840 --output_dim 128 --num_prototypes 3000"
BYOL = "--output_dim 256 --proj_hidden_dim 4096 --base_tau_momentum 0.99 --final_tau_momentum 1.0"
BARLOW = "--proj_hidden_dim 2048 --output_dim 2048 --scale_loss 0.1"
DISTILLERS = {
    "barlow": "decorrelative", "byol": "predictive", "mocov2plus": "contrastive", "simclr": "contrastive",
    "supcon": "contrastive", "swav": "knowledge", "vicreg": "predictive_mse",
}  # fmt: skip
NAMES = {"barlow": "barlow_twins", "supcon": "simclr"}  # what --method says, where it is not the script's name

CIFAR = {
    "barlow": f"--num_tasks 5 --task_idx 0 {LARS} --lr 0.3 --classifier_lr 0.1 --weight_decay 1e-4 --num_workers 4 "
    f"{JITTER} --gaussian_prob 0.0 0.0 --solarization_prob 0.0 0.2 {BARLOW} --save_checkpoint",
    "byol": f"--num_tasks 2 --task_idx 0 {LARS} --lr 1.0 --classifier_lr 0.1 --weight_decay 1e-5 --num_workers 5 "
    f"{JITTER} --gaussian_prob 0.0 0.0 --solarization_prob 0.0 0.2 {BYOL} --pred_hidden_dim 4096 "
    "--momentum_classifier --save_checkpoint",
    "simclr": f"--num_tasks 2 --task_idx 0 {LARS} --lr 0.4 --classifier_lr 0.1 --weight_decay 1e-5 --num_workers 5 "
    f"{STRONG} --gaussian_prob 0.0 0.0 --temperature 0.2 --proj_hidden_dim 2048 --output_dim 256 --save_checkpoint",
    "swav": "--num_tasks 2 --task_idx 0 --optimizer sgd --lars --grad_clip_lars --eta_lars 0.02 "
    "--scheduler warmup_cosine --lr 0.6 --min_lr 0.0006 --classifier_lr 0.1 --weight_decay 1e-6 --num_workers 3 "
    f"{STRONG} --gaussian_prob 0.0 0.0 {SWAV} --epoch_queue_starts 50 --freeze_prototypes_epochs 2",
    "vicreg": f"--num_tasks 5 --task_idx 1 {LARS} --lr 0.3 --weight_decay 1e-4 --num_workers 3 --min_scale 0.2 "
    f"{JITTER} --gaussian_prob 0.0 0.0 --solarization_prob 0.1 {VICREG} --save_checkpoint",
}
LARGE = {
    "barlow": f"{LARS} --lr 0.4 --weight_decay 1e-4 {JITTER} --gaussian_prob 1.0 0.1 --solarization_prob 0.0 0.2 "
    f"{BARLOW}",
    "byol": f"{LARS} --lr 0.6 --classifier_lr 0.1 --weight_decay 1e-5 {JITTER} --gaussian_prob 1.0 0.1 "
    f"--solarization_prob 0.0 0.2 {BYOL} --pred_hidden_dim 8192",
    "mocov2plus": f"{SGD} --lr 0.4 --classifier_lr 0.3 --weight_decay 1e-4 {MOCO_JITTER} --proj_hidden_dim 2048 "
    "--queue_size 65536 --temperature 0.2 --base_tau_momentum 0.99 --final_tau_momentum 0.999",
    "simclr": f"{LARS} --lr 0.4 --weight_decay 1e-4 {STRONG} --temperature 0.2 --proj_hidden_dim 2048",
    "supcon": f"{LARS} --lr 0.4 --weight_decay 1e-4 {STRONG} --temperature 0.1 --proj_hidden_dim 2048 --supervised",
    "swav": f"{LARS} --lr 0.8 --min_lr 0.0006 --classifier_lr 0.1 --weight_decay 1e-6 {STRONG} {SWAV}",
    "vicreg": f"{LARS} --lr 0.4 --weight_decay 1e-4 --min_scale 0.2 {JITTER} --solarization_prob 0.1 {VICREG}",
}  # fmt: skip
LINEAR_LR = {
    "barlow": 0.1, "byol": 3.0, "mocov2plus": 3.0, "simclr": 1.0, "supcon": 1.0, "swav": 0.15, "vicreg": 0.3,
    "simsiam": 30.0,
}  # fmt: skip
DOMAINS = ("quickdraw", "clipart", "infograph", "painting", "real", "sketch")


def script(program: str, flags: str) -> str:
    """Return a command in upstream's layout: a flag with its values on each line."""
    lines = [f"--{flag.strip()}" for flag in f" {flags}".split(" --") if flag.strip()]
    return f"python3 {program} \\\n" + " \\\n".join(f"    {line}" for line in lines) + "\n"


def cifar(method: str, distill: bool) -> str:
    flags = CIFAR[method]
    if distill:  # here upstream's number of tasks is right
        flags = flags.replace("--num_tasks 2", "--num_tasks 5").replace("--task_idx 0", "--task_idx 1")
    return script(
        "main_continual.py",
        "--dataset cifar100 --encoder resnet18 --data_dir $DATA_DIR --split_strategy class --max_epochs 500 --gpus 0 "
        f"--precision 16 --batch_size 256 {flags} --name {method}-cifar100 {WANDB} --method "
        f"{NAMES.get(method, method)}{_distilled(method) if distill else ''}",
    )


def imagenet100(method: str, split: str, distill: bool) -> str:
    more = " --momentum_classifier" * (method in ("byol", "mocov2plus") and (split == "class") != distill)
    more += {"swav": " --epoch_queue_starts 100 --freeze_prototypes_epochs 5"}.get(method, "")
    return script(
        "main_continual.py",
        "--dataset imagenet100 --encoder resnet18 --data_dir $DATA_DIR --train_dir imagenet-100/train "
        f"--val_dir imagenet-100/val --split_strategy {split} --max_epochs 400 --num_tasks 5 --task_idx {int(distill)} "
        "--gpus 0,1 --accelerator ddp --sync_batchnorm --num_workers 5 --precision 16 --batch_size 128 "
        f"{LARGE[method]}{more} --dali --check_val_every_n_epoch 9999 --name {method}-imagenet100-5T {WANDB} "
        f"--save_checkpoint --method {NAMES.get(method, method)}{_distilled(method) if distill else ''}",
    )


def domainnet(method: str, distill: bool) -> str:
    more = " --momentum_classifier" * (method in ("byol", "mocov2plus"))
    if method == "swav":
        queue, freeze = (100, 5) if distill else (50, 3)
        more = f" --epoch_queue_starts {queue} --freeze_prototypes_epochs {freeze}"
    more += " --offline" * (method == "barlow" and distill)
    last = _distilled(method) if distill else ""
    return script(
        "main_continual.py",
        "--dataset domainnet --encoder resnet18 --data_dir $DATA_DIR/domainnet --split_strategy domain "
        f"--max_epochs 200 --num_tasks 6 --task_idx {int(distill)} --gpus 0,1,2,3 --accelerator ddp --sync_batchnorm "
        f"--num_workers 5 --precision 16 --batch_size {256 if method == 'byol' and distill else 64} {LARGE[method]}"
        f"{more} --dali --name {method}-domainnet {WANDB} --save_checkpoint --check_val_every_n_epoch 9999 "
        f"--disable_knn_eval --method {NAMES.get(method, method)}{last.replace('predictive_mse', 'predictiveMSE')}",
    )


def _distilled(method: str) -> str:
    return f" --distiller {DISTILLERS[method]} --pretrained_model $PRETRAINED_PATH"


def linear(method: str, data: str, workers: int, name: str) -> str:
    return script(
        "main_linear.py",
        f"{data} --encoder resnet18 --max_epochs 100 --gpus 0 --precision 16 --optimizer sgd --scheduler step "
        f"--lr {LINEAR_LR[method]} --lr_decay_steps 60 80 --weight_decay 0 --batch_size 256 --num_workers {workers} "
        f"--dali --name {method}-{name}-linear-eval --pretrained_feature_extractor $PRETRAINED_PATH {WANDB} "
        "--save_checkpoint",
    )


def linear_imagenet100(method: str, split: str) -> str:
    data = "--dataset imagenet100 --data_dir $DATA_DIR --train_dir imagenet-100/train --val_dir imagenet-100/val"
    return linear(method, f"{data} --split_strategy class --num_tasks 5", 10, f"imagenet100-5T_{split}")


def linear_domainnet(method: str) -> str:
    data = "--dataset domainnet --data_dir $DATA_DIR/domainnet --split_strategy domain"
    wanted = {"all": data, **{domain: f"{data} --domain {domain}" for domain in DOMAINS}}
    return "\n".join(f"# {n}\n{linear(method, flags, 8, f'domainnet_{n}')}" for n, flags in wanted.items())


CONTINUAL = {
    **{f"cifar {m} {d}": cifar(m, d) for m in CIFAR for d in (False, True)},
    **{
        f"imagenet-100 {split} {m} {d}": imagenet100(m, split, d)
        for m in LARGE for split in ("class", "data") for d in (False, True)
    },
    **{f"domainnet {m} {d}": domainnet(m, d) for m in LARGE for d in (False, True)},
    # an earlier state of it: no --task_idx 1, and two tasks
    "cifar swav True, earlier": f"{cifar('swav', False).rstrip()} {_distilled('swav')}",
}  # fmt: skip
LINEAR = {
    **{f"imagenet-100 {s} {m}": linear_imagenet100(m, s) for m in LINEAR_LR for s in ("class", "data")},
    **{f"domainnet {m}": linear_domainnet(m) for m in LARGE},
}

# Kaizen ---------------------------------------------------------------------------------------------------------------

KAIZEN_COMMON = (
    "--dataset cifar100 --encoder resnet18 --data_dir $DATA_DIR --split_strategy class --num_tasks 5 --gpus 0 "
    f"--precision 16 {LARS} --min_lr 0.0 --online_eval_classifier_lr 0.1 --batch_size 256 --brightness 0.4 "
    "--contrast 0.4 --saturation 0.2 --hue 0.1 --gaussian_prob 0.0 0.0 --disable_knn_eval --entity unitn-mhug --wandb "
    "--offline --save_checkpoint --classifier_training True --classifier_stop_gradient True --classifier_layers 1000 "
    "--distiller_library factory --distiller_classifier soft_label --classifier_distill_lamb 2.0 "
    "--classifier_distill_no_predictior True --replay True --replay_proportion 0.01 --replay_batch_size 32 "
    "--online_evaluation True --online_evaluation_training_data_source seen_tasks --global_seed 5 --split_seed 5"
)
MOMENTUM = "--solarization_prob 0.0 0.2 --output_dim 256 --lr 1.0 --classifier_lr 0.1 --weight_decay 1e-5"
KAIZEN = {
    "byol": f"--max_epochs 500 --task_idx 0 {MOMENTUM} --proj_hidden_dim 4096 --pred_hidden_dim 4096 --num_workers 2 "
    "--base_tau_momentum 0.99 --final_tau_momentum 1.0 --momentum_classifier --distiller predictive "
    "--feature_extractor_distill_lamb 1 --project ever-learn-2",
    "mocov2plus": f"--max_epochs 2 --task_idx 0 {MOMENTUM} --proj_hidden_dim 2048 --temperature 0.2 --num_workers 2 "
    "--queue_size 65536 --base_tau_momentum 0.99 --final_tau_momentum 0.999 --momentum_classifier "
    "--distiller contrastive --feature_extractor_distill_lamb 1 --project ever-learn",
    "simclr": f"--max_epochs 500 --task_idx 1 {MOMENTUM} --proj_hidden_dim 4096 --pred_hidden_dim 4096 --num_workers 3 "
    "--base_tau_momentum 0.99 --final_tau_momentum 1.0 --momentum_classifier --distiller contrastive "
    "--feature_extractor_distill_lamb 1 --pretrained_model /home/them/task0.ckpt --project ever-learn-2",
    "vicreg": f"--max_epochs 500 --task_idx 4 --lr 0.3 --classifier_lr 0.05 --weight_decay 1e-4 --min_scale 0.2 "
    f"--solarization_prob 0.1 0.1 {VICREG} --num_workers 2 --distiller predictive_mse "
    "--feature_extractor_distill_lamb 25 --pretrained_model /home/them/task3.ckpt --project ever-learn-2",
}


def kaizen(method: str) -> str:
    return script("main_continual.py", f"{KAIZEN_COMMON} --name {method}-distill --method {method} {KAIZEN[method]}")
