/** Files in a bucket, by AWS's SDK. */
import type { Readable } from 'node:stream'
import { bucketAt, statusOf } from '../s3.ts'
import { objectPath, tenantPath } from './keys.ts'
import type { FileStore } from './store.ts'

const MIB = 1_048_576
/** S3 takes no more than so many parts of one object. */
const MAX_PARTS = 10_000
/** Of one upload at a time, in memory: one is on its way while the next one fills. */
const PARTS_AT_ONCE = 2

export const bucketStore = (address: string, maxBytes: number): FileStore => {
  const { name, keyOf, open } = bucketAt(address)
  const partSize = Math.max(8 * MIB, Math.ceil(maxBytes / MAX_PARTS))

  /** Uploads in parts that never ended; an end that somebody still asks for is refused from then on. */
  const abortUploads = async (prefix: string): Promise<void> => {
    const { sdk, client, bucket: Bucket } = await open()
    for (let from: { KeyMarker?: string | undefined; UploadIdMarker?: string | undefined } | undefined = {}; from; ) {
      const page: import('@aws-sdk/client-s3').ListMultipartUploadsCommandOutput = await client.send(
        new sdk.ListMultipartUploadsCommand({ Bucket, Prefix: prefix, ...from }),
      )
      for (const { Key, UploadId } of page.Uploads ?? []) {
        if (!Key?.startsWith(prefix)) continue
        await unlessGone(client.send(new sdk.AbortMultipartUploadCommand({ Bucket, Key, UploadId })))
      }
      from = page.IsTruncated ? { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker } : undefined
    }
  }

  return {
    name,

    async put(key, body) {
      const { client, bucket: Bucket } = await open()
      const { Upload } = await import('@aws-sdk/lib-storage')
      const params = { Bucket, Key: keyOf(objectPath(key)), Body: body, ContentType: 'application/octet-stream' }
      const upload = new Upload({ client, params, partSize, queueSize: PARTS_AT_ONCE, leavePartsOnError: false })
      try {
        await upload.done()
      } catch (error) {
        body.destroy()
        await this.remove(key).catch(() => {}) // what was thrown is what there is to say; the rest is swept
        throw error
      }
    },

    async open(key, size, range) {
      const { sdk, client, bucket: Bucket } = await open()
      const Range = range && `bytes=${range.start}-${range.end}`
      const found = await unlessGone(
        client.send(new sdk.GetObjectCommand({ Bucket, Key: keyOf(objectPath(key)), ...(Range && { Range }) })),
      )
      if (!found) return undefined
      const body = found.Body as Readable
      if (found.ContentLength === (range ? range.end - range.start + 1 : size)) return body
      body.destroy()
      return undefined
    },

    async remove(key) {
      const { sdk, client, bucket: Bucket } = await open()
      const Key = keyOf(objectPath(key))
      await abortUploads(Key)
      await unlessGone(client.send(new sdk.DeleteObjectCommand({ Bucket, Key })))
    },

    async removeTenant(tenantId) {
      const { sdk, client, bucket: Bucket } = await open()
      const Prefix = `${keyOf(tenantPath(tenantId))}/`
      await abortUploads(Prefix)
      for (;;) {
        const { Contents = [] } = await client.send(new sdk.ListObjectsV2Command({ Bucket, Prefix }))
        if (Contents.length === 0) return
        for (const { Key } of Contents) await client.send(new sdk.DeleteObjectCommand({ Bucket, Key }))
      }
    },
  }
}

const unlessGone = async <T>(work: Promise<T>): Promise<T | undefined> => {
  try {
    return await work
  } catch (error) {
    if (statusOf(error) === 404) return undefined
    throw error
  }
}
