"""Accuracies of an encoder where only some training images have labels, as in STL-10."""

from dataclasses import replace

import torch

from cassle.data.module import TaskData
from cassle.data.recipe import Recipe
from cassle.evaluation.encoder import accuracy_rows
from cassle.evaluation.online import OnlineProbe, OnlineProbeCallback
from cassle.evaluation.protocol import Evaluation
from cassle.nn.tiny import TinyConvNet

RECIPE = Recipe(size=8, mean=(0.3,) * 3, std=(0.4,) * 3)


def images():
    """Return the digits in two random parts, and the same with every other training label hidden."""
    whole = TaskData(dataset="digits", split_strategy="data", num_tasks=2).load(8)
    hidden = whole.train.targets.clone()
    hidden[::2] = -1
    return whole, replace(whole, train=replace(whole.train, targets=hidden))


def test_probes_learn_from_the_labelled_images_only():
    whole, partly = images()
    torch.manual_seed(0)
    backbone = TinyConvNet(8, width=4).eval()
    evaluation = Evaluation(few_labels=0, linear_max_iter=3)
    seen = replace(whole.train, pixels=whole.train.pixels[1::2], targets=whole.train.targets[1::2])
    expected = accuracy_rows(backbone, replace(whole, train=seen), RECIPE, evaluation)
    assert accuracy_rows(backbone, partly, RECIPE, evaluation) == expected
    assert expected != accuracy_rows(backbone, whole, RECIPE, evaluation)


def test_the_online_probe_draws_labelled_images():
    _, partly = images()
    settings = {"batch_size": 8, "seed": 0, "task": 0, "report": {}}
    probe = OnlineProbeCallback(OnlineProbe(online_eval_data="current_task"), "backbone", partly, RECIPE, **settings)
    odd = [index for index in partly.split.train[0].tolist() if index % 2]
    assert probe.members.tolist() == odd


def test_domains_have_probes_of_their_own():
    """They are what ``--domain`` evaluates, one domain after the other; the agnostic ones saw all domains."""
    torch.manual_seed(0)
    backbone = TinyConvNet(8, width=4).eval()
    evaluation = Evaluation(few_labels=0, disable_linear_eval=True)
    rows = accuracy_rows(backbone, TaskData(split_strategy="domain").load(8), RECIPE, evaluation)
    assert list(rows) == ["knn", "ridge", "knn_domain_aware", "ridge_domain_aware"]
    for task, domain in ((1, "inverted"), (4, "outlined")):
        one = TaskData(split_strategy="domain", domain=domain, num_tasks=1).load(8)
        alone = accuracy_rows(backbone, one, RECIPE, evaluation)
        assert list(alone) == ["knn", "ridge"]  # they are aware of the domain already
        for probe in alone:
            assert rows[f"{probe}_domain_aware"][task] == alone[probe][0] != rows[probe][task]
