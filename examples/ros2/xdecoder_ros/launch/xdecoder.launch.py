"""Start the node: ros2 launch xdecoder_ros xdecoder.launch.py plan:=/opt/models/workcell.plan."""

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode


def generate_launch_description() -> LaunchDescription:
    """Return the node with its arguments."""
    share = get_package_share_directory("xdecoder_ros")
    arguments = {
        "plan": ("", "the plan"),
        "image": ("/camera/color/image_raw", "topic of the images"),
        "depth": ("/camera/aligned_depth_to_color/image_raw", "topic of their aligned depth"),
        "camera_info": ("/camera/color/camera_info", "topic of their CameraInfo"),
        "params": (f"{share}/config/params.yaml", "file of parameters"),
    }
    value = LaunchConfiguration
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, text) in arguments.items()
            ),
            LifecycleNode(
                package="xdecoder_ros",
                executable="xdecoder",
                name="xdecoder",
                namespace="",
                output="screen",
                parameters=[value("params"), {"plan": value("plan")}],
                remappings=[
                    ("image", value("image")),
                    ("depth", value("depth")),
                    ("camera_info", value("camera_info")),
                ],
            ),
        ]
    )
