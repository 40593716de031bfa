# aploss_mx on the CPU: docker build -t aploss_mx . && docker run --rm aploss_mx --help
FROM python:3.11-slim-bookworm
RUN apt-get update && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 libgomp1 libquadmath0 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY . .
RUN pip install --no-cache-dir '.[cpu,fast,onnx]'
ENTRYPOINT ["aploss-mx"]
