"""The online probe watches the encoder and never touches it."""

import torch

import cassle


def final_state(tmp_path, **settings):
    experiment = cassle.Experiment(
        say=lambda line: None, method="byol", backbone="tiny", width=4, num_tasks=1, max_epochs=1, batch_size=256,
        output_dim=8, proj_hidden_dim=8, pred_hidden_dim=8, few_labels=0, disable_linear_eval=True,
        experiment_dir=tmp_path, **settings,
    )  # fmt: skip
    experiment.run()
    return torch.load(experiment.folder.task(0) / "final.ckpt", weights_only=True)


def test_encoder_and_batch_norm_statistics_are_the_same_with_and_without_the_probe(tmp_path, capsys):
    watched = final_state(tmp_path / "watched", momentum_classifier=True)
    alone = final_state(tmp_path / "alone", disable_online_eval=True)
    assert watched["probes"].keys() == {"backbone", "momentum"} and not alone["probes"]
    assert any("running_mean" in name for name in alone["state_dict"])
    for name, value in alone["state_dict"].items():
        assert torch.equal(value, watched["state_dict"][name]), name


def test_the_momentum_probe_is_reported_beside_the_other(tmp_path, capsys):
    final_state(tmp_path, momentum_classifier=True)
    header = (tmp_path / "task0" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"online_acc", "val_acc", "momentum_online_acc", "momentum_val_acc"} <= set(header)
