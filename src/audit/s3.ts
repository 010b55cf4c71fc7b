import type { GetObjectCommandOutput, S3Client } from '@aws-sdk/client-s3'
import { type Sink, SinkConflict } from './sinks.ts'

/** What a bucket does with a name that is taken. */
const PRECONDITION_FAILED = 412

/**
 * A bucket: `s3://bucket/prefix?region=eu-central-1`, and `&endpoint=https://…` for one that is not AWS's. Credentials, and
 * a region that is not named, are found where AWS's SDK looks for them. Nothing is written over: the bucket must know
 * `If-None-Match` (AWS, MinIO, R2 and others do).
 */
export const s3Sink = (address: string): Sink => {
  const { hostname: bucket, pathname, searchParams } = new URL(address)
  const prefix = decodeURIComponent(pathname).replace(/^\/+|\/+$/g, '')
  const [region, endpoint] = [searchParams.get('region'), searchParams.get('endpoint')]
  const name = `s3://${bucket}${prefix && `/${prefix}`}`

  let opened: Promise<Bucket> | undefined
  return {
    name,
    async put(path, content) {
      opened ??= open({ ...(region && { region }), ...(endpoint && { endpoint, forcePathStyle: true }) }, bucket)
      const { write, read } = await opened
      const key = prefix === '' ? path : `${prefix}/${path}`
      const bytes = Buffer.from(content)
      if (await write(key, bytes)) return
      if (!(await read(key)).equals(bytes)) throw new SinkConflict(name, path)
    },
  }
}

type Bucket = {
  /** False when there is something under this key. */
  write(key: string, bytes: Buffer): Promise<boolean>
  read(key: string): Promise<Buffer>
}

type Settings = { region?: string; endpoint?: string; forcePathStyle?: boolean }

/** The SDK is large, and loaded by those who have a bucket. */
const open = async (settings: Settings, Bucket: string): Promise<Bucket> => {
  const sdk = await import('@aws-sdk/client-s3')
  const client: S3Client = new sdk.S3Client({
    ...settings,
    requestHandler: { connectionTimeout: 5_000, requestTimeout: 60_000, throwOnRequestTimeout: true },
  })
  return {
    async write(Key, Body) {
      const ContentType = 'application/x-ndjson'
      try {
        await client.send(new sdk.PutObjectCommand({ Bucket, Key, Body, ContentType, IfNoneMatch: '*' }))
        return true
      } catch (error) {
        const { $metadata } = error as { $metadata?: { httpStatusCode?: number } }
        if ($metadata?.httpStatusCode === PRECONDITION_FAILED) return false
        throw error
      }
    },
    async read(Key) {
      const { Body }: GetObjectCommandOutput = await client.send(new sdk.GetObjectCommand({ Bucket, Key }))
      return Buffer.from((await Body?.transformToByteArray()) ?? [])
    },
  }
}
