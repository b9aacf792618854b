"""The protocol: which probes run, which labels they get, and that its signature is its configuration."""

import pytest
import torch
from jsonargparse import ArgumentParser

from cassle.errors import ConfigError
from cassle.evaluation.protocol import Evaluation, few_label_subset


@pytest.fixture(scope="module")
def data():
    g = torch.Generator().manual_seed(0)
    y = torch.arange(4).repeat(30)
    x = torch.randn(120, 12, generator=g) + 3 * torch.eye(4, 12)[y]
    return x[:80], y[:80], x[80:], y[80:], y[80:] // 2, 4, 2


def test_a_row_has_one_accuracy_per_probe_and_task(data):
    rows = Evaluation(few_labels=3).row(*data)
    assert list(rows) == ["knn", "ridge", "ridge_3_labels", "linear"]
    assert all(len(row) == 2 and all(0.6 < value <= 1 for value in row) for row in rows.values())
    assert Evaluation(few_labels=3).row(*data) == rows


def test_probes_can_be_left_out(data):
    evaluation = Evaluation(disable_knn_eval=True, disable_linear_eval=True, few_labels=0)
    assert list(evaluation.row(*data)) == ["ridge"] == list(evaluation.describe()["probes"])


def test_more_labels_than_there_are_is_ridge_itself(data):
    rows = Evaluation(few_labels=1000, few_label_draws=1).row(*data)
    assert rows["ridge_1000_labels"] == rows["ridge"]


def test_few_labels_are_stratified_and_fixed():
    targets = torch.tensor([0] * 50 + [1] * 3 + [3] * 20)[
        torch.randperm(73, generator=torch.Generator().manual_seed(1))
    ]
    chosen = few_label_subset(targets, 5, draw=0)
    assert torch.bincount(targets[chosen]).tolist() == [5, 3, 0, 5]
    assert chosen.unique().numel() == 13
    torch.manual_seed(7)  # the global generator has no say
    assert torch.equal(few_label_subset(targets, 5, draw=0), chosen)
    assert not torch.equal(few_label_subset(targets, 5, draw=1), chosen)


def test_the_description_names_every_probe_and_the_head():
    text = Evaluation(knn_k=7, few_labels=3).describe()
    assert set(text["probes"]) == {"knn", "ridge", "ridge_3_labels", "linear"}
    assert "one probe over all classes, no task id" in text["head"]
    assert "k=7" in text["probes"]["knn"]


def test_all_wrong_settings_are_collected():
    with pytest.raises(ConfigError) as caught:
        Evaluation(knn_k=0, ridge_lamb=0.0, linear_l2=float("nan"), eval_batch_size=0)
    assert len(caught.value.problems) == 4
    assert "--knn_k 0" in str(caught.value)


def test_the_signature_is_the_configuration(capsys):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Evaluation)
    config = parser.parse_args(["--knn_k", "3", "--disable_linear_eval", "true"])
    evaluation = Evaluation(**config.as_dict())
    assert evaluation.knn_k == 3 and evaluation.disable_linear_eval
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    assert "labels per class of the few-label ridge probe" in " ".join(capsys.readouterr().out.split())


# Domains -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def conflicting():
    """Two domains, told apart by a constant feature; what is class 0 in one is class 1 in the other."""
    g = torch.Generator().manual_seed(0)
    y, domain = torch.arange(2).repeat(100), torch.arange(2).repeat_interleave(100)
    x = torch.randn(200, 8, generator=g) / 4
    x[:, 0] += 4 * torch.where(y == domain, 1.0, -1.0)  # classes 0 and 1 swap places
    order = torch.randperm(200, generator=g)
    first, second = order[:120], order[120:]
    return x[first], y[first], x[second], y[second], domain[second], 2, 2, domain[first]


def test_a_probe_that_is_aware_of_domains_solves_what_one_for_all_cannot(conflicting):
    rows = Evaluation(few_labels=0, knn_k=5).row(*conflicting)
    assert list(rows) == ["knn", "ridge", "linear", "knn_domain_aware", "ridge_domain_aware", "linear_domain_aware"]
    for probe in ("knn", "ridge", "linear"):
        assert rows[f"{probe}_domain_aware"] == [1.0, 1.0]
        assert 0.3 < sum(rows[probe]) / 2 < 0.7


def test_aware_probes_are_those_of_each_domain_alone(conflicting):
    x, y, vx, vy, val_domain, _, _, domain = conflicting
    evaluation = Evaluation(few_labels=0, knn_k=3, disable_linear_eval=True)
    rows = evaluation.row(*conflicting)
    for d in range(2):
        here, there = domain == d, val_domain == d
        alone = evaluation.row(x[here], y[here], vx[there], vy[there], torch.zeros(int(there.sum())).long(), 2, 1)
        assert [rows[f"{probe}_domain_aware"][d] for probe in ("knn", "ridge")] == [alone["knn"][0], alone["ridge"][0]]


def test_aware_probes_can_be_left_out(conflicting):
    off = Evaluation(few_labels=0, domain_aware=False)
    assert list(off.row(*conflicting)) == ["knn", "ridge", "linear"] == list(off.describe(domain_aware=True)["probes"])
    assert list(Evaluation().row(*conflicting[:7])) == ["knn", "ridge", "ridge_10_labels", "linear"]


def test_the_description_says_which_probe_knows_the_domain():
    text = Evaluation(disable_linear_eval=True).describe(domain_aware=True)
    assert "domain-agnostic: fitted on the train images of all domains" in text["head"]
    assert "one probe per domain, fitted on its train images only" in text["probes"]["knn_domain_aware"]
    assert "domain" not in Evaluation().describe()["head"]
    assert "all tasks share" in Evaluation().describe(shared_val=True)["accuracy"]
