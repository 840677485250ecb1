"""The package xdecoder_ros, for colcon."""

from setuptools import setup

setup(
    name="xdecoder_ros",
    version="0.2.0",
    packages=["xdecoder_ros"],
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/xdecoder_ros"]),
        ("share/xdecoder_ros", ["package.xml"]),
        ("share/xdecoder_ros/launch", ["launch/xdecoder.launch.py"]),
        ("share/xdecoder_ros/config", ["config/params.yaml"]),
    ],
    install_requires=["setuptools", "xdecoder_rt"],
    zip_safe=True,
    license="Apache-2.0",
    description="Open-vocabulary segments from camera images, with xdecoder_rt",
    entry_points={"console_scripts": ["xdecoder = xdecoder_ros.node:main"]},
)
