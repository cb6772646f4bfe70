"""Image sets of photographs: any folder of pictures, or a data set on the hub, in splits that cannot overlap."""
