/** Whether it is written as PostgreSQL writes an id: five groups in lower case. What leads elsewhere is none. */
export const isUuid = (text: string): boolean => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text)
