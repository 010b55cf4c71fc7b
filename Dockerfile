# One image for every process: the API is its default, the worker and the migrations are other commands.
#
#   docker build -t bulkhead .
#   docker run bulkhead                           the API
#   docker run bulkhead node src/worker.ts        the worker
#   docker run bulkhead node src/cli.ts migrate   the migrations

FROM node:24-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# Optional ones are the pinned Node, which the image itself brings. No install script is needed, so none may run.
# The client is a package of its own, and no part of the server.
RUN npm ci --omit=dev --omit=optional --workspaces=false --ignore-scripts --loglevel=error

# ReDoc's bundle holds all that it needs; what it was made from stays out.
FROM node:24-slim AS redoc
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=optional --workspaces=false --ignore-scripts --loglevel=error

FROM node:24-slim AS base
ENV NODE_ENV=production HOST=0.0.0.0 PORT=3000 FILE_STORE=file:///var/lib/bulkhead/files
# Resident memory after load: 170 MiB with these, 330 MiB without. V8 collects in time when it is told how much there is;
# glibc keeps no pool of its own for each thread that hashed a password. A larger container may have larger numbers.
ENV NODE_OPTIONS="--max-old-space-size=256 --max-semi-space-size=16" MALLOC_ARENA_MAX=2
WORKDIR /app
# Root's, and so read-only for whom it runs as.
COPY --from=dependencies /app/node_modules node_modules
COPY --from=redoc /app/node_modules/redoc/bundles/redoc.standalone.js node_modules/redoc/bundles/
COPY package.json LICENSE ./
COPY sql sql
COPY src src
# A volume that is mounted here begins as this folder: its user's, and nobody else's.
RUN install -d -m 0700 -o 1000 -g 1000 /var/lib/bulkhead/files
# The user node, by its number: a cluster that asks for non-root can tell by a number only.
USER 1000:1000

# For docker-compose.yml: makes passwords and keys on the first start.
FROM base AS secrets
USER 0:0
COPY scripts/compose-secrets.ts scripts/
CMD ["node", "scripts/compose-secrets.ts"]

FROM base
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/health/live`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "src/server.ts"]
