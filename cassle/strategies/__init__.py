"""Further ways not to forget than distillation: mixins that compose with any objective, and with each other."""

from cassle.strategies.together import Strategies

STRATEGIES = Strategies(
    "strategy",
    {
        "finetune": "cassle.strategies.base:Finetune",
        "er": "cassle.strategies.replay:ExperienceReplay",
        "lump": "cassle.strategies.lump:LUMP",
        "der": "cassle.strategies.der:DER",
        "minred": "cassle.strategies.minred:MinRedReplay",
        "aep": "cassle.strategies.alignment:AEP",
        "apre": "cassle.strategies.alignment:APRE",
        "arp": "cassle.strategies.alignment:ARP",
        "cassle-r": "cassle.strategies.alignment:CaSSLeR",
        "kaizen": "cassle.strategies.kaizen:Kaizen",
        "ccl": "cassle.strategies.ccl:CCL",
        "simple_replay": "cassle.strategies.simple_replay:SimpleReplay",
        "si": "cassle.strategies.regularisation:SI",
        "ewc": "cassle.strategies.regularisation:EWC",
    },
    aliases={
        "no_strategy": "finetune",
        "replay": "er",
        "cla-b": "aep",
        "cla-e": "apre",
        "cla-r": "arp",
        "cassle_r": "cassle-r",
        "CCL": "ccl",
        "SimpleReplay": "simple_replay",
        "Finetuning": "finetune",
    },
)
