#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Lay out the simulated libraries in the build tree as they are installed.
# usage: deploy.sh DIR-OF-LIBRARIES LIB STAMP
set -e
mkdir -p "$2/sim" "$2/sim-driver"
ln -sfn "$1/libcuda.so.1" "$2/sim/libcuda.so.1"
ln -sfn libcuda.so.1 "$2/sim/libcuda.so" # what `-L.../sim -lcuda` looks for
ln -sfn "$1/nvml/libnvidia-ml.so.1" "$2/sim/libnvidia-ml.so.1"
ln -sfn ../sim/libcuda.so.1 "$2/sim-driver/libaliquot-driver.so.1"
ln -sfn ../sim/libnvidia-ml.so.1 "$2/sim-driver/libaliquot-driver-nvml.so.1"
touch "$3"
