# Offline probes of a SimCLR encoder on DomainNet: first one classifier for all domains, then one for each.
# $PRETRAINED_PATH is a checkpoint of a run, e.g. experiments/simclr-distill-domainnet/task5/final.ckpt.
python main_linear.py --dataset domainnet --data_dir $DATA_DIR/domainnet --split_strategy domain \
    --pretrained_feature_extractor $PRETRAINED_PATH
python main_linear.py --dataset domainnet --data_dir $DATA_DIR/domainnet --split_strategy domain \
    --domain real --pretrained_feature_extractor $PRETRAINED_PATH
python main_linear.py --dataset domainnet --data_dir $DATA_DIR/domainnet --split_strategy domain \
    --domain quickdraw --pretrained_feature_extractor $PRETRAINED_PATH
python main_linear.py --dataset domainnet --data_dir $DATA_DIR/domainnet --split_strategy domain \
    --domain painting --pretrained_feature_extractor $PRETRAINED_PATH
python main_linear.py --dataset domainnet --data_dir $DATA_DIR/domainnet --split_strategy domain \
    --domain sketch --pretrained_feature_extractor $PRETRAINED_PATH
python main_linear.py --dataset domainnet --data_dir $DATA_DIR/domainnet --split_strategy domain \
    --domain infograph --pretrained_feature_extractor $PRETRAINED_PATH
python main_linear.py --dataset domainnet --data_dir $DATA_DIR/domainnet --split_strategy domain \
    --domain clipart --pretrained_feature_extractor $PRETRAINED_PATH
