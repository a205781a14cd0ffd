variable "bucket" {
  description = "The bucket to make private: its id and its ARN."
  type = object({
    id  = string
    arn = string
  })
}
