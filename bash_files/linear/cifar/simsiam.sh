# Offline probes of a SimSiam encoder on CIFAR-100: kNN, ridge and linear accuracy per task, no task id.
# $PRETRAINED_PATH is a checkpoint of a run, e.g. experiments/simsiam-distill-cifar100/task4/final.ckpt.
python main_linear.py \
    --dataset cifar100 \
    --data_dir $DATA_DIR \
    --split_strategy class \
    --num_tasks 5 \
    --pretrained_feature_extractor $PRETRAINED_PATH
