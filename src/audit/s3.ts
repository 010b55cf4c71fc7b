import { bucketAt, statusOf } from '../s3.ts'
import { type Sink, SinkConflict } from './sinks.ts'

/** What a bucket does with a name that is taken. */
const PRECONDITION_FAILED = 412

/** A bucket, whose objects are never written over: it must know `If-None-Match` (AWS, MinIO, R2 and others do). */
export const s3Sink = (address: string): Sink => {
  const { name, keyOf, open } = bucketAt(address)

  const write = async (Key: string, Body: Buffer): Promise<boolean> => {
    const { sdk, client, bucket: Bucket } = await open()
    const ContentType = 'application/x-ndjson'
    try {
      await client.send(new sdk.PutObjectCommand({ Bucket, Key, Body, ContentType, IfNoneMatch: '*' }))
      return true
    } catch (error) {
      if (statusOf(error) === PRECONDITION_FAILED) return false
      throw error
    }
  }
  const read = async (Key: string): Promise<Buffer> => {
    const { sdk, client, bucket: Bucket } = await open()
    const { Body } = await client.send(new sdk.GetObjectCommand({ Bucket, Key }))
    return Buffer.from((await Body?.transformToByteArray()) ?? [])
  }

  return {
    name,
    async put(path, content) {
      const key = keyOf(path)
      const bytes = Buffer.from(content)
      if (await write(key, bytes)) return
      if (!(await read(key)).equals(bytes)) throw new SinkConflict(name, path)
    },
  }
}
