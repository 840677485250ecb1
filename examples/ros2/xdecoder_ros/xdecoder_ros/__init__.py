"""A ROS 2 node of xdecoder_rt."""
