import type { S3Client } from '@aws-sdk/client-s3'

/** What S3 answered, of an error that the SDK throws; undefined where it answered nothing. */
export const statusOf = (error: unknown): number | undefined =>
  (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode

type Sdk = typeof import('@aws-sdk/client-s3')

export type Bucket = { readonly sdk: Sdk; readonly client: S3Client; readonly bucket: string }

export type BucketAddress = {
  /** Tells this place from others, and carries no secret. */
  readonly name: string
  /** What an object is called there, by its path below the address. */
  keyOf(path: string): string
  /** The SDK is large: it is loaded by those who have a bucket, and once. */
  open(): Promise<Bucket>
}

/**
 * A bucket: `s3://bucket/prefix?region=eu-central-1`, and `&endpoint=https://…` for one that is not AWS's. Credentials, and
 * a region that is not named, are found where AWS's SDK looks for them.
 */
export const bucketAt = (address: string): BucketAddress => {
  const { hostname: bucket, pathname, searchParams } = new URL(address)
  const prefix = decodeURIComponent(pathname).replace(/^\/+|\/+$/g, '')
  const [region, endpoint] = [searchParams.get('region'), searchParams.get('endpoint')]

  let opened: Promise<Bucket> | undefined
  const load = async (): Promise<Bucket> => {
    const sdk = await import('@aws-sdk/client-s3')
    const client = new sdk.S3Client({
      ...(region && { region }),
      ...(endpoint && { endpoint, forcePathStyle: true }),
      requestHandler: { connectionTimeout: 5_000, requestTimeout: 60_000, throwOnRequestTimeout: true },
    })
    return { sdk, client, bucket }
  }
  return {
    name: `s3://${bucket}${prefix && `/${prefix}`}`,
    keyOf: (path) => (prefix === '' ? path : `${prefix}/${path}`),
    open: () => {
      opened ??= load()
      return opened
    },
  }
}
