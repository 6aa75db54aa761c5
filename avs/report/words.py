"""What the arms of the study are, in a few words each."""

ARM_NOTES = {
    "uniform": "every second at base resolution",
    "uniform_low": "every second at low resolution",
    "uniform_high": "every second at high resolution: a larger budget",
    "flop_matched_uniform": "uniform, some seconds drawn for high (or low) resolution: the arithmetic of the plans",
    "random_topk": "high resolution at random seconds",
    "anchored_topk": "high resolution at the seconds that sound most like an event",
    "oracle_topk": "high resolution at the first seconds of the true event",
    "oracle_first": "the same as oracle_topk, under its plain name",
    "oracle_best": "the most tokens on the true event that the budget allows",
    "audio_concat_uniform": "uniform, with the audio score as a feature",
    "audio_concat_anchored_topk": "anchored, with the audio score as a feature",
    "audio_feat_concat_uniform": "uniform, with ten audio features",
    "audio_feat_concat_anchored_topk": "anchored, with ten audio features",
    "plan_concat_uniform": "uniform, told which resolution the anchors would have given",
    "anchored_shuffled": "the anchors of another clip",
    "anchored_permuted": "the anchored plan with its seconds permuted",
    "constant_topk": "the seconds that are most often event in training, for every clip",
    "visual_topk": "the seconds in which the picture changes most, without sound",
    "train_random_eval_anchored": "trained on random plans, judged on anchored ones",
}
