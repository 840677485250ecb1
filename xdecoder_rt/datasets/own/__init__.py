"""Data sets as labelling tools write them: COCO instances, YOLO-seg, labelme, masks of classes."""
