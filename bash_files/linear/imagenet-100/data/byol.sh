# Offline probes of a BYOL encoder on ImageNet-100: kNN, ridge and linear accuracy per task, no task id.
# $PRETRAINED_PATH is a checkpoint of a run, e.g. experiments/byol-distill-imagenet100-data/task4/final.ckpt.
python main_linear.py \
    --dataset imagenet100 \
    --data_dir $DATA_DIR/imagenet-100 \
    --split_strategy data \
    --num_tasks 5 \
    --pretrained_feature_extractor $PRETRAINED_PATH
