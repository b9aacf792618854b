# Offline probes of a SimSiam encoder on ImageNet-100: kNN, ridge and linear accuracy per task, no task id.
# $PRETRAINED_PATH is a checkpoint of a run: the final.ckpt of its last task.
python main_linear.py \
    --dataset imagenet100 \
    --data_dir $DATA_DIR/imagenet-100 \
    --split_strategy class \
    --num_tasks 5 \
    --pretrained_feature_extractor $PRETRAINED_PATH
