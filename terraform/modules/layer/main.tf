# The zip that `make layer` built and verified, and the layer version made from it.

resource "aws_s3_object" "this" {
  bucket      = var.bucket
  key         = "layer/${basename(var.zip)}"
  source      = var.zip
  source_hash = filesha256(var.zip)
}

resource "aws_lambda_layer_version" "this" {
  layer_name               = var.name
  description              = "Prophet and what the function imports; sha256 ${substr(filesha256(var.zip), 0, 12)}"
  s3_bucket                = aws_s3_object.this.bucket
  s3_key                   = aws_s3_object.this.key
  s3_object_version        = aws_s3_object.this.version_id
  source_code_hash         = filebase64sha256(var.zip)
  compatible_runtimes      = ["python${var.python}"]
  compatible_architectures = [var.architecture]

  lifecycle {
    create_before_destroy = true # functions switch to the new version before the old one is deleted
  }
}
