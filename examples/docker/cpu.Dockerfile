# A service on processors. Unverified: no Docker has built it yet.
#
#   examples/release.sh dist                     a wheel and a plan, in dist/
#   docker build -f examples/docker/cpu.Dockerfile -t xdecoder-rt dist
#   docker run --rm -p 127.0.0.1:8000:8000 -e XDECODER_RT_TOKEN --read-only --tmpfs /tmp xdecoder-rt
#
# The token comes from the environment of whoever runs it; nothing secret is in the image.
FROM python:3.12.8-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
COPY *cp312*.whl /tmp/wheels/
RUN pip install --only-binary :all: "$(echo /tmp/wheels/*.whl)[openvino,serve]" && rm -r /tmp/wheels
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin xdecoder
COPY --chmod=0444 model.plan /model.plan

USER 10001
ENV XDECODER_RT_CACHE=/tmp/cache
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD \
  ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["xdecoder-rt"]
CMD ["serve", "/model.plan", "--host", "0.0.0.0"]
