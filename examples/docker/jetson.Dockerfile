# A service on Jetson boards with JetPack 6 (TensorRT, Python 3.10). Unverified: no board has built it yet.
#
#   examples/release.sh dist                     on a PC: a source archive and a portable plan, in dist/
#   docker build -f examples/docker/jetson.Dockerfile -t xdecoder-rt dist        on the board
#   docker run --rm --runtime nvidia -v plans:/plans xdecoder-rt build --plan /model.plan \
#       --precision fp16 --backend tensorrt -o /plans/orin.plan                  once a board and JetPack
#   docker run --rm --runtime nvidia -v plans:/plans:ro -p 127.0.0.1:8000:8000 -e XDECODER_RT_TOKEN \
#       xdecoder-rt serve /plans/orin.plan --host 0.0.0.0
FROM nvcr.io/nvidia/l4t-jetpack:r36.4.0

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-pip python3-dev python3-libnvinfer build-essential \
    && rm -rf /var/lib/apt/lists/*
COPY *.tar.gz /tmp/source/
RUN pip3 install "$(echo /tmp/source/*.tar.gz)[jetson,serve]" && rm -r /tmp/source
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin --groups video xdecoder \
    && install -d -o 10001 /plans
COPY --chmod=0444 model.plan /model.plan

USER 10001
ENV XDECODER_RT_CACHE=/tmp/cache
VOLUME /plans
EXPOSE 8000
STOPSIGNAL SIGTERM
ENTRYPOINT ["xdecoder-rt"]
CMD ["serve", "/model.plan", "--host", "0.0.0.0"]
